"""Health checks: probe engines for their models and capabilities."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import Final, NamedTuple

import structlog

from maxgate.errors import StackTrace, UpstreamOverloaded
from maxgate.generation.catalog import Capabilities
from maxgate.net.shortage import find_shortage
from maxgate.upstream.capabilities import probe_capabilities
from maxgate.upstream.client import EngineClient
from maxgate.upstream.connect_errors import CONNECTION_REFUSED
from maxgate.upstream.max_api.models import ModelListError, list_models
from maxgate.upstream.replica import EngineModel, Replica
from maxgate.upstream.settings import UpstreamSettings

PrepareModels = Callable[[Collection[str]], Awaitable[None]]

_log = structlog.get_logger("upstream")

# Seconds between warnings about the same engine, and between probes of capabilities that stay
# unknown; each pause is twice the one before.
_FIRST_PAUSE: Final = 5.0
_MAX_PAUSE: Final = 300.0
_START_GRACE: Final = 2.0


class _Warning(NamedTuple):
    cause: str | None
    at: float
    pause: float


class _Retry(NamedTuple):
    at: float
    pause: float


class HealthMonitor:
    """Lists the models of every engine at an interval and updates the replicas.

    A replica becomes healthy after `prepare_models` has run for its models and their capabilities
    were probed (models in `embedding_models` are not probed), or `probe_timeout` seconds later if
    the engine is slow to respond to these probes. `on_change` is called then and when they end.
    Capabilities that are unknown then, because the engine was slow, are probed again. With
    `starts_engines`, MAX is being started beside the gateway: an engine that has never been healthy
    and refuses connections is no reason for a warning.
    """

    def __init__(
        self,
        replicas: Sequence[Replica],
        client: EngineClient,
        settings: UpstreamSettings,
        prepare_models: PrepareModels,
        on_change: Callable[[], None],
        embedding_models: Collection[str] = (),
        *,
        starts_engines: bool = False,
        time: Callable[[], float] = monotonic,
    ) -> None:
        self._replicas = replicas
        self._client = client
        self._settings = settings
        self._prepare_models = prepare_models
        self._on_change = on_change
        self._embedding_models = embedding_models
        self._starts_engines = starts_engines
        self._probed: set[Replica] = set()
        self._progress = asyncio.Event()
        self._changed = asyncio.Event()
        self._time = time
        self._warnings: dict[Replica, _Warning] = {}
        self._retries: dict[tuple[Replica, str], _Retry] = {}
        self._on_failure: Callable[[str], None] | None = None

    def on_failure(self, callback: Callable[[str], None]) -> None:
        """Call this with the URL of a replica whose probe raised an unexpected error."""
        self._on_failure = callback

    async def run(self) -> None:
        """Probe all replicas, now and at their intervals, until cancelled."""
        watches: dict[Replica, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as tasks:
            while True:
                for replica in self._replicas:
                    if replica not in watches:
                        watches[replica] = tasks.create_task(self._watch(replica))
                for replica in set(watches).difference(self._replicas):
                    watches.pop(replica).cancel()
                    self._forget(replica)
                self._changed.clear()
                await self._changed.wait()

    def replicas_changed(self) -> None:
        """Start to watch new replicas, and stop to watch removed ones."""
        self._changed.set()

    def _forget(self, replica: Replica) -> None:
        self._probed.discard(replica)
        self._warnings.pop(replica, None)
        for key in [key for key in self._retries if key[0] is replica]:
            del self._retries[key]

    async def wait_for_start(self) -> None:
        """Wait until the first probe of every replica has a result.

        Once a replica is healthy, the others have two seconds more.
        """
        deadline: float | None = None
        while any(r.state == "unknown" and r not in self._probed for r in self._replicas):
            if deadline is None and any(r.state == "healthy" for r in self._replicas):
                deadline = asyncio.get_running_loop().time() + _START_GRACE
            self._progress.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._progress.wait()
            except TimeoutError:
                return

    async def _watch(self, replica: Replica) -> None:
        settings = self._settings
        while True:
            with suppress(Exception):  # the report of a failure has failed, too
                await self.probe(replica)
            self._probed.add(replica)
            self._progress.set()
            is_healthy = replica.state == "healthy"
            interval = settings.probe_interval if is_healthy else settings.unhealthy_probe_interval
            await asyncio.sleep(interval)

    async def probe(self, replica: Replica) -> None:
        """Probe one replica and update its state; an unexpected error counts as a failed probe."""
        try:
            await self._update(replica)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            self._record_failure(replica, error)
        except Exception as error:  # noqa: BLE001  # probes must go on, or the replica is lost
            self._record_failure(replica, error)
        if replica.state == "unreachable":
            self._warn(replica)

    def _report_healthy(self, replica: Replica) -> None:
        _log.info("engine is healthy", engine=replica.url, models=sorted(replica.models))
        for model in replica.models.values():
            if model.software != "MAX":
                _log.warning(
                    f"the engine is {model.software}, not MAX: it formats the prompts itself",
                    engine=replica.url,
                    model=model.name,
                )

    def _warn(self, replica: Replica) -> None:
        """Report an unreachable engine, again whenever its cause changes or a pause has passed."""
        now = self._time()
        last = self._warnings.get(replica)
        if last is not None and last.cause == replica.error and now < last.at + last.pause:
            return
        pause = _FIRST_PAUSE if last is None else min(2 * last.pause, _MAX_PAUSE)
        self._warnings[replica] = _Warning(replica.error, now, pause)
        is_starting = not replica.models and replica.error == CONNECTION_REFUSED
        if self._starts_engines and is_starting:
            _log.info("waiting for the engine to start", engine=replica.url)
            return
        _log.warning("engine is unreachable", engine=replica.url, error=replica.error)

    async def _update(self, replica: Replica) -> None:
        timeout = self._settings.probe_timeout
        models = await list_models(self._client, replica.target, read_timeout=timeout)
        await self._prepare_models(models)
        names = self._select_unprobed(replica, models)
        if not names:
            self._mark_healthy(replica, models, {})
            return
        async with asyncio.TaskGroup() as tasks:
            probing = tasks.create_task(self._probe_capabilities(replica, names))
            await asyncio.wait([probing], timeout=timeout)
            if probing.done():
                self._mark_healthy(replica, models, probing.result())
                return
            self._mark_healthy(replica, models, {})  # the engine may only be busy
        replica.add_capabilities(probing.result())
        self._on_change()

    def _mark_healthy(
        self,
        replica: Replica,
        models: Mapping[str, EngineModel],
        capabilities: Mapping[str, Capabilities],
    ) -> None:
        before, known = replica.state, describe_models(replica.models)
        replica.mark_healthy(models, capabilities)
        found = describe_models(replica.models)
        if known and known != found:
            _log.warning(
                "engine has changed its models", engine=replica.url, before=known, after=found
            )
        self._on_change()
        self._warnings.pop(replica, None)
        self._progress.set()
        if before != "healthy":
            self._report_healthy(replica)

    def _record_failure(self, replica: Replica, error: BaseException) -> None:
        now = asyncio.get_running_loop().time()
        if isinstance(error, ModelListError):
            replica.mark_probe_failed(str(error), refused=error.refused, now=now)
            return
        inconclusive = error if isinstance(error, UpstreamOverloaded) else find_shortage(error)
        if inconclusive is not None:
            replica.mark_inconclusive(inconclusive.message)
            return
        replica.watch_failures += 1
        reason = f"probe failed: {type(error).__name__}"
        replica.mark_probe_failed(reason, refused=False, now=now)
        if self._on_failure is not None:
            self._on_failure(replica.url)
        _log.error("engine probe failed", engine=replica.url, exception=StackTrace(error))

    def _select_unprobed(self, replica: Replica, models: Iterable[str]) -> list[str]:
        # An engine that returns may have been restarted with other flags.
        probe_again = replica.state != "healthy"
        return [
            name
            for name in models
            if name not in self._embedding_models
            and (
                probe_again or name not in replica.capabilities or self._is_retry_due(replica, name)
            )
        ]

    async def _probe_capabilities(
        self, replica: Replica, names: Collection[str]
    ) -> Mapping[str, Capabilities]:
        has_returned = replica.state != "healthy"
        timeout = self._settings.capability_probe_timeout
        found = await probe_capabilities(self._client, replica.target, names, read_timeout=timeout)
        for name, capabilities in found.items():
            self._plan_retry(replica, name, capabilities)
        if has_returned:
            return found
        return {
            name: new.or_else(replica.capabilities.get(name, new)) for name, new in found.items()
        }

    def _is_retry_due(self, replica: Replica, model: str) -> bool:
        retry = self._retries.get((replica, model))
        return retry is not None and self._time() >= retry.at

    def _plan_retry(self, replica: Replica, model: str, found: Capabilities) -> None:
        last = self._retries.pop((replica, model), None)
        if not found.is_known:
            pause = _FIRST_PAUSE if last is None else min(2 * last.pause, _MAX_PAUSE)
            now = self._time()
            self._retries[replica, model] = _Retry(now + pause, pause)


def describe_models(models: Mapping[str, EngineModel]) -> list[str]:
    """Return name, software and context length of each model; they survive a restart."""
    return [
        f"{model.name} ({model.software}, context {model.context_length or 'unknown'})"
        for model in models.values()
    ]
