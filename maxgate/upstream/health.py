"""Health checks: probe engines for their models and capabilities."""

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from time import monotonic
from typing import Final, NamedTuple

import structlog

from maxgate.generation.catalog import Capabilities
from maxgate.upstream.capabilities import probe_capabilities
from maxgate.upstream.client import EngineClient
from maxgate.upstream.max_api.models import ModelListError, list_models
from maxgate.upstream.replica import EngineModel, Replica
from maxgate.upstream.settings import UpstreamSettings

PrepareModels = Callable[[Collection[str]], Awaitable[None]]

_log = structlog.get_logger()

# Seconds between warnings about the same engine, and between probes of capabilities that stay
# unknown; each pause is twice the one before.
_FIRST_PAUSE: Final = 5.0
_MAX_PAUSE: Final = 300.0


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
    were probed (models in `embedding_models` are not probed). Then `on_change` is called.
    Capabilities that are unknown then, because the engine was slow, are probed again.
    """

    def __init__(
        self,
        replicas: Sequence[Replica],
        client: EngineClient,
        settings: UpstreamSettings,
        prepare_models: PrepareModels,
        on_change: Callable[[], None],
        embedding_models: Collection[str] = (),
        time: Callable[[], float] = monotonic,
    ) -> None:
        self._replicas = replicas
        self._client = client
        self._settings = settings
        self._prepare_models = prepare_models
        self._on_change = on_change
        self._embedding_models = embedding_models
        self._time = time
        self._warnings: dict[Replica, _Warning] = {}
        self._retries: dict[tuple[Replica, str], _Retry] = {}
        self._on_failure: Callable[[str], None] | None = None

    def on_failure(self, callback: Callable[[str], None]) -> None:
        """Call this with the URL of a replica whose probe raised an unexpected error."""
        self._on_failure = callback

    async def run(self) -> None:
        """Probe all replicas at their intervals until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for replica in self._replicas:
                tasks.create_task(self._watch(replica))

    async def probe_all(self) -> None:
        """Probe every replica once, concurrently."""
        async with asyncio.TaskGroup() as tasks:
            for replica in self._replicas:
                tasks.create_task(self.probe(replica))

    async def _watch(self, replica: Replica) -> None:
        settings = self._settings
        while True:
            is_healthy = replica.state == "healthy"
            interval = settings.probe_interval if is_healthy else settings.unhealthy_probe_interval
            await asyncio.sleep(interval)
            await self.probe(replica)

    async def probe(self, replica: Replica) -> None:
        """Probe one replica and update its state; an unexpected error counts as a failed probe."""
        before = replica.state
        try:
            await self._update(replica)
        except ModelListError as error:
            replica.mark_probe_failed(str(error), refused=error.refused)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            self._record_failure(replica, error)
        except Exception as error:  # noqa: BLE001  # probes must go on, or the replica is lost
            self._record_failure(replica, error)
        if replica.state == "healthy":
            self._warnings.pop(replica, None)
            if before != "healthy":
                self._report_healthy(replica)
        elif replica.state == "unreachable":
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
        _log.warning("engine is unreachable", engine=replica.url, error=replica.error)

    async def _update(self, replica: Replica) -> None:
        timeout = self._settings.probe_timeout
        models = await list_models(self._client, replica.target, read_timeout=timeout)
        await self._prepare_models(models)
        replica.mark_healthy(models, await self._probe_capabilities(replica, models))
        self._on_change()

    def _record_failure(self, replica: Replica, error: BaseException) -> None:
        replica.watch_failures += 1
        replica.mark_probe_failed(f"probe failed: {type(error).__name__}", refused=False)
        if self._on_failure is not None:
            self._on_failure(replica.url)
        trace = "".join(traceback.format_exception(error))
        _log.error("engine probe failed", engine=replica.url, exception=trace)

    async def _probe_capabilities(
        self, replica: Replica, models: Mapping[str, EngineModel]
    ) -> Mapping[str, Capabilities]:
        # An engine that returns may have been restarted with other flags.
        probe_again = replica.state != "healthy"
        names = [
            name
            for name in models
            if name not in self._embedding_models
            and (
                probe_again or name not in replica.capabilities or self._is_retry_due(replica, name)
            )
        ]
        found = await probe_capabilities(
            self._client,
            replica.target,
            names,
            read_timeout=self._settings.capability_probe_timeout,
        )
        for name, capabilities in found.items():
            self._plan_retry(replica, name, capabilities)
        if probe_again:
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
