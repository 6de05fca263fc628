"""The control of the engines, in the process that owns their list."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypedDict

import structlog
from pydantic import ValidationError
from typing_extensions import override

from maxgate.api.admin.schemas import (
    Engine,
    EngineChange,
    EngineControl,
    NewEngine,
    ReloadResult,
    unknown_engine,
)
from maxgate.control_plane.changes import ManagedEngines
from maxgate.control_plane.errors import NotConfirmed
from maxgate.control_plane.reload import ActiveSettings, log_changes, read_again
from maxgate.errors import GatewayError, InvalidRequest
from maxgate.settings import Settings
from maxgate.settings_section import choose_error
from maxgate.upstream.settings import DNS_PREFIX, ReplicaSettings

# From the best state for requests to the worst.
_STATES: Final = ("healthy", "unknown", "unreachable", "dns")
_BREAKERS: Final = ("closed", "half_open", "open")
CONFIRMATION_TIMEOUT: Final = 5.0
PROBE_TIMEOUT: Final = 10.0
"""Seconds that replaced engines keep serving until the new ones have been probed."""
_POLL_INTERVAL: Final = 0.1

_log = structlog.get_logger("control_plane")


class ModelReport(TypedDict):
    """The requests of models in one worker, or in all.

    `running` has those that run or wait for a slot, by model. `closed` are the models that get no
    new ones. `idle` has the seconds since the last response of each engine, by id.
    """

    running: Mapping[str, int]
    closed: Collection[str]
    idle: Mapping[str, float]


def merge_model_reports(reports: Sequence[ModelReport]) -> ModelReport:
    """Return the report for all workers: a model is closed if it is in each of them."""
    running, idle = Counter[str](), dict[str, float]()
    for report in reports:
        running.update(report["running"])
        for key, seconds in report["idle"].items():
            idle[key] = min(seconds, idle.get(key, seconds))
    closed = [set(report["closed"]) for report in reports]
    return ModelReport(
        running=running, closed=set[str].intersection(*closed) if closed else (), idle=idle
    )


class Reports(NamedTuple):
    """The engines as each worker sees them; `missing` workers have not reported in time.

    `models` is of the others.
    """

    engines: Sequence[Sequence[Engine]]
    missing: int = 0
    models: ModelReport = ModelReport(running={}, closed=(), idle={})


class EngineController(EngineControl):
    """Makes changes one after another, and applies each to all workers by `synchronize`.

    `settings` are those that the workers run with; `load` reads those of now.
    """

    def __init__(
        self,
        managed: ManagedEngines,
        settings: Settings,
        load: Callable[[], Settings],
        synchronize: Callable[[], Awaitable[Reports]],
    ) -> None:
        self.managed = managed
        self._active = ActiveSettings(settings)
        self._load = load
        self._synchronize = synchronize
        self._lock = asyncio.Lock()

    async def publish(self) -> Reports:
        """Send the present state to all workers, and return their reports."""
        async with self._lock:
            return await self._synchronize()

    @override
    async def list_engines(self) -> tuple[Sequence[Engine], int]:
        async with self._lock:
            reports = await self._synchronize()
        return self._merge(reports), len(reports.engines)

    @override
    async def add_engine(self, engine: NewEngine) -> Engine:
        settings = parse_engine(engine.model_dump(exclude_unset=True))
        async with self._lock:
            self.managed.add(settings)
            _log.info("engine added", engine=settings.public_url, id=settings.id)
            return await self._confirm(settings.id)

    @override
    async def change_engine(self, engine_id: str, change: EngineChange) -> Engine:
        fields = change.model_dump(exclude_unset=True)
        async with self._lock:
            seen = self._merge(await self._synchronize())
            self.managed.change(engine_id, fields, {engine.id for engine in seen})
            _log.info("engine changed", id=engine_id, **fields)
            return await self._confirm(engine_id)

    @override
    async def remove_engine(self, engine_id: str) -> None:
        async with self._lock:
            self.managed.remove(engine_id)
            _log.info("engine removed", id=engine_id)
            self._check(await self._synchronize())

    @override
    async def reload(self, *, with_restart: bool = False) -> ReloadResult:
        """See EngineControl; `with_restart`: workers are replaced and read all settings."""
        async with self._lock:
            settings = read_again(self._load)
            changes = self._active.compare(settings, with_restart=with_restart)
            before = self.managed.engines
            seen = {one.id for report in (await self._synchronize()).engines for one in report}
            try:
                self.managed.reconfigure(settings.engines)
            except GatewayError as error:
                _log.error("reload failed, the old configuration stays", error=error.message)
                raise
            self._active.update(settings, with_restart=with_restart)
            log_changes(changes)
            await self._wait_for_successors(before, seen)
            self._check(await self._synchronize())
            return ReloadResult(changes=changes)

    async def _wait_for_successors(
        self, before: Sequence[ReplicaSettings], seen: Collection[str]
    ) -> None:
        """Let engines that were removed serve until all workers have probed the new ones.

        `seen` are the ids that workers reported before, those of addresses of DNS names included.
        """
        old = {engine.id for engine in before}
        new = {engine.id for engine in self.managed.engines}
        if not new - old or not old - new:
            return
        self.managed.leaving = [engine for engine in before if engine.id not in new]
        deadline = asyncio.get_running_loop().time() + PROBE_TIMEOUT
        try:
            while asyncio.get_running_loop().time() < deadline:
                reports = (await self._synchronize()).engines
                states = [{one.state for one in report if one.id not in seen} for report in reports]
                if all(one and "unknown" not in one for one in states):
                    return
                await asyncio.sleep(_POLL_INTERVAL)
        finally:
            self.managed.leaving = []

    async def _confirm(self, engine_id: str) -> Engine:
        """Apply a change, and return the engine that it was made to."""
        reports = await self._synchronize()
        self._check(reports)
        for engine in self._merge(reports):
            if engine.id == engine_id:
                return engine
        raise unknown_engine(engine_id)

    def _check(self, reports: Reports) -> None:
        if reports.missing:
            total = reports.missing + len(reports.engines)
            raise NotConfirmed(reports.missing, total, CONFIRMATION_TIMEOUT)

    def _merge(self, reports: Reports) -> list[Engine]:
        """Merge the reports of all workers, engine by engine."""
        by_id: dict[str, list[Engine]] = {}
        for report in reports.engines:
            for engine in report:
                by_id.setdefault(engine.id, []).append(engine)
        for settings in self.managed.engines:
            if settings.id not in by_id and settings.id not in self.managed.stopped:
                by_id[settings.id] = [self._describe_without_report(settings)]
        added = self.managed.added_ids
        return [_merge_engine(views, runtime=key in added) for key, views in by_id.items()]

    def _describe_without_report(self, engine: ReplicaSettings) -> Engine:
        """Return an engine with a DNS name, whose addresses are reported instead."""
        return Engine(
            id=engine.id,
            url=engine.public_url,
            state="dns" if engine.url.startswith(DNS_PREFIX) else "unknown",
            draining=engine.id in self.managed.changes.drained,
            models=[],
            in_flight=0,
            breakers={},
            weight=engine.weight,
            max_concurrency=engine.max_concurrency,
            source="configuration",
            error=None,
        )


def parse_engine(fields: dict[str, Any]) -> ReplicaSettings:
    """Return the settings of an engine; raises InvalidRequest that names the field."""
    try:
        return ReplicaSettings.model_validate(fields)
    except ValidationError as error:
        details = choose_error(error)
        message = details["msg"].removeprefix("Value error, ")
        param = ".".join(map(str, details["loc"])) or None
        raise InvalidRequest(message, param=param, code="invalid_engine") from error


def _merge_engine(views: Sequence[Engine], *, runtime: bool) -> Engine:
    best = min(views, key=lambda view: _STATES.index(view.state))
    models = {model for view in views for model in view.models}
    breakers: dict[str, str] = {}
    for view in views:
        for model, state in view.breakers.items():
            breakers[model] = max(breakers.get(model, "closed"), state, key=_BREAKERS.index)
    return best.model_copy(
        update={
            "models": sorted(models),
            "in_flight": sum(view.in_flight for view in views),
            "breakers": breakers,
            "source": "runtime" if runtime else "configuration",
        }
    )
