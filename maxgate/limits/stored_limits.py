"""The limits of the database, which each worker keeps in memory.

A worker asks for changes in each POLL_INTERVAL, so that a changed limit takes effect sooner than a
revoked key is refused; while the database is away, the limits stay as they were.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

import structlog
from typing_extensions import override

from maxgate.errors import StackTrace
from maxgate.generation.context import Principal
from maxgate.limits.limit import UNLIMITED, Alert, Limit, LimitSource, Scope
from maxgate.stores.identity import StoreUnavailable
from maxgate.stores.limits import LimitStore, ScopeKey, SpendAlert, StoredLimit, Unit

POLL_INTERVAL: Final = 2.0
"""Seconds between two reads of changes."""
START_TIMEOUT: Final = 5.0
"""Seconds for which the start waits for the limits, which do not apply until they are read."""
MAX_FOUND: Final = 100_000
"""Callers and models whose limits are remembered."""

_UNIT_NAMES: Final[dict[Unit, str]] = {
    "money": "spend",
    "gpu_milliseconds": "GPU milliseconds",
}
_log = structlog.get_logger("limits")


class StoredLimits(LimitSource):
    """Finds limits in memory, as they are in the database, and those of the settings.

    `aliases` has the names of models by their aliases, by which limits may name them, too.
    """

    def __init__(
        self,
        store: LimitStore,
        *,
        configured: Sequence[Limit] = (),
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self._store = store
        self._configured = configured
        self._aliases = aliases or {}
        self._revision: int | None = None
        self._limits: dict[ScopeKey, list[Limit]] = {}
        self._found: dict[tuple[str, str, str, str], tuple[Limit, ...]] = {}
        self._lock = asyncio.Lock()
        self._listeners: list[Callable[[], None]] = []

    @property
    @override
    def is_empty(self) -> bool:
        return not (self._configured or self._limits)

    @property
    @override
    def bounds_requests(self) -> bool:
        limits = [*self._configured, *[one for own in self._limits.values() for one in own]]
        return any(limit.unit == "tokens_per_request" for limit in limits)

    @override
    def on_change(self, forget: Callable[[], None]) -> None:
        self._listeners.append(forget)

    @override
    def find(self, principal: Principal, model: str) -> Sequence[Limit]:
        key = (principal.key_id, principal.owner_id, principal.project_id, model)
        found = self._found.get(key)
        if found is None:
            if len(self._found) >= MAX_FOUND:
                self._found.clear()
            found = self._found[key] = tuple(self._collect(principal, model))
        return found

    async def refresh(self) -> None:
        """Read what has changed since the last call; raises StoreUnavailable."""
        async with self._lock:
            changes = await self._store.read_changes(self._revision)
            self._revision = changes.revision
            if changes.scopes is None:
                self._limits.clear()
            elif not changes.scopes:
                return
            for scope in changes.scopes or ():
                self._limits.pop(scope, None)
            self._limits |= build_limits(changes.limits, changes.alerts)
            self._found.clear()
            for forget in self._listeners:
                forget()

    async def publish(self, ids: Collection[str]) -> None:  # noqa: ARG002  # of auth/key_changes.py
        """Take over changes that this process has made; never raises."""
        await self._try_refresh()

    async def run(self) -> None:
        """Follow changes; runs until it is cancelled."""
        while True:
            await self._try_refresh()
            await asyncio.sleep(POLL_INTERVAL)

    async def start(self) -> None:
        """Read the limits before the first request; never raises."""
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await self._try_refresh()
        except TimeoutError:
            pass
        if self._revision is None:
            _log.warning("limits of the database do not apply until it can be read")

    async def _try_refresh(self) -> None:
        try:
            await self.refresh()
        except StoreUnavailable:
            return  # the database reports it
        except Exception as error:  # noqa: BLE001  # the next time must come
            _log.error("limits could not be read", exception=StackTrace(error))

    def _collect(self, principal: Principal, model: str) -> Iterable[Limit]:
        yield from self._configured
        for scope in (
            ScopeKey("key", principal.key_id),
            ScopeKey("user", principal.owner_id),
            ScopeKey("project", principal.project_id),
            ScopeKey("organization"),
        ):
            for limit in self._limits.get(scope, ()):
                name = limit.scope.model
                if name is None or self._aliases.get(name, name) == model:
                    yield limit


def build_limits(
    rows: Iterable[StoredLimit], alerts: Iterable[SpendAlert]
) -> dict[ScopeKey, list[Limit]]:
    """Return the limits of each scope.

    Alerts belong to the budget of money per month; without one, to a limit that only reports use.
    """
    by_scope: dict[ScopeKey, list[Alert]] = {}
    for alert in alerts:
        by_scope.setdefault(alert.scope_key, []).append(
            Alert(
                alert.id,
                alert.amount,
                recipients=alert.recipients,
                subject_prefix=alert.subject_prefix,
            )
        )
    found: dict[ScopeKey, list[Limit]] = {}
    for row in rows:
        spend_alerts: list[Alert] = []
        if (row.unit, row.window, row.model) == ("money", "month", ""):
            spend_alerts = by_scope.pop(row.scope_key, [])
        found.setdefault(row.scope_key, []).append(build_limit(row, spend_alerts))
    for scope, left in by_scope.items():
        row = StoredLimit(
            scope.id, "", scope.kind, scope.id, "", "money", "month", None, 0, is_budget=True
        )
        found.setdefault(scope, []).append(build_limit(row, left))
    return found


def build_limit(row: StoredLimit, spend_alerts: Sequence[Alert] = ()) -> Limit:
    """Return the limit of a row, with its alerts and those of OpenAI's admin API."""
    alerts = list(spend_alerts)
    if row.amount is not None:
        alerts += [
            Alert(f"{row.id}-{percent}", -(-row.amount * percent // 100), percent)
            for percent in row.alert_percents
        ]
        if row.is_budget:
            alerts.append(Alert(f"{row.id}-100", row.amount, 100))
    if row.alert_amount is not None:
        alerts.append(Alert(f"{row.id}-soft", row.alert_amount))
    return Limit(
        Scope(row.scope, row.scope_id, row.model or None),
        row.unit,
        row.window,
        UNLIMITED if row.amount is None else row.amount,
        name_limit(row),
        is_budget=row.is_budget,
        time_zone=row.time_zone,
        alerts=tuple(sorted(alerts, key=lambda alert: alert.amount)),
    )


def name_limit(row: StoredLimit) -> str:
    """Return the name that clients see beside the scope, such as `requests per minute`."""
    unit = _UNIT_NAMES.get(row.unit, row.unit.replace("_", " "))
    window = {"none": "", "total": " in total"}.get(row.window, f" per {row.window}")
    return f"{unit}{window}"
