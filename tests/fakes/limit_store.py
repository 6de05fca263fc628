"""Limits in memory, as a database has them; it can be away."""

from typing_extensions import override

from maxgate.stores.identity import StoreUnavailable
from maxgate.stores.limits import (
    Claim,
    LimitChanges,
    LimitStore,
    ScopeKey,
    SpendAlert,
    StoredLimit,
)


class FakeLimitStore(LimitStore):
    """Holds `limits` and `alerts`; call `note` when those of a scope have changed.

    `sent` are the alerts that were sent, and `claims` those that some gateway has begun to send,
    with the end of its lease.
    """

    def __init__(self) -> None:
        self.limits: list[StoredLimit] = []
        self.alerts: list[SpendAlert] = []
        self.changes: list[ScopeKey] = []
        self.reads: list[int | None] = []
        self.claims: dict[str, int] = {}
        self.sent: list[str] = []
        self.is_away = False

    def note(self, *scopes: ScopeKey) -> None:
        """Note that the limits of these scopes have changed."""
        self.changes += scopes

    @override
    async def read_changes(self, since: int | None) -> LimitChanges:
        self._check()
        self.reads.append(since)
        newest = len(self.changes)
        if since is None or since > newest:
            return LimitChanges(newest, None, list(self.limits), list(self.alerts))
        scopes = set(self.changes[since:])
        return LimitChanges(
            newest,
            scopes,
            [limit for limit in self.limits if limit.scope_key in scopes],
            [alert for alert in self.alerts if alert.scope_key in scopes],
        )

    @override
    async def claim_alert(self, alert_id: str, now: int, lease: int) -> Claim:
        self._check()
        if alert_id in self.sent:
            return "sent"
        if now < self.claims.get(alert_id, 0):
            return "busy"
        self.claims[alert_id] = now + lease
        return "own"

    @override
    async def finish_alert(self, alert_id: str, now: int) -> None:
        self._check()
        self.sent.append(alert_id)

    def _check(self) -> None:
        if self.is_away:
            raise StoreUnavailable("connection refused")
