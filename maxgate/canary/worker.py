"""The canary of one worker: it runs as long as the parent process asks for reports."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from maxgate.api.admin.canary import NewCanary
from maxgate.canary.diversion import Diversion
from maxgate.canary.gap import measure_gap
from maxgate.canary.samples import WorkerReport
from maxgate.errors import GatewayError, StackTrace
from maxgate.generation.guard import Guard, NoGuard
from maxgate.generation.request import GenerationRequest
from maxgate.upstream.backend import UpstreamBackend
from maxgate.upstream.client import EngineClient
from maxgate.upstream.max_api.models import ModelListError, list_models
from maxgate.upstream.pool import ReplicaPool
from maxgate.upstream.replica import Replica
from maxgate.upstream.settings import (
    ContinuationSettings,
    FailoverSettings,
    ReplicaSettings,
)

LEASE: Final = 30.0
"""Seconds without a request for a report after which a canary ends."""
_PROBE_INTERVAL: Final = 1.0
# A failure of the new engine must count, so it is never repaired.
_FAILOVER: Final = FailoverSettings(continuation=ContinuationSettings(attempts=0, restart_window=0))

_log = structlog.get_logger("canary")


class WorkerCanary:
    """Diverts requests of a backend while a canary runs.

    `pool` has the normal engines; `connect` returns a client for the new one. `limits` hold for its
    requests, too.
    """

    def __init__(
        self,
        backend: UpstreamBackend,
        pool: ReplicaPool,
        connect: Callable[[ReplicaSettings], EngineClient],
        limits: Guard | None = None,
    ) -> None:
        self._limits = limits or NoGuard()
        self._backend = backend
        self._pool = pool
        self._connect = connect
        self._run: _Run | None = None
        self._ending: set[asyncio.Task[None]] = set()

    def report(self, canary_id: str, canary: NewCanary | None, after: int) -> WorkerReport:
        """Start or keep the canary with this id, and return its samples `after` the first ones.

        Without `canary`, end it.
        """
        if self._run is not None and self._run.id != canary_id:
            self._end()
        if self._run is None and canary is not None:
            self._run = _Run(
                canary_id,
                canary,
                self._backend.guard,
                self._limits,
                self._pool,
                self._connect,
                self._end,
            )
            self._backend.diversion = self._run.diversion
        if self._run is None:
            return WorkerReport()
        report = self._run.report(after)
        if canary is None:
            self._end()
        return report

    def _end(self) -> None:
        run, self._run = self._run, None
        self._backend.diversion = None
        if run is not None:
            ending = asyncio.create_task(run.aclose())
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

    async def aclose(self) -> None:
        """End the canary and wait for its last copies."""
        self._end()
        if self._ending:
            await asyncio.wait(self._ending)


class _Run:
    """One canary from its start to its end."""

    def __init__(
        self,
        canary_id: str,
        canary: NewCanary,
        guard: Guard,
        limits: Guard,
        pool: ReplicaPool,
        connect: Callable[[ReplicaSettings], EngineClient],
        end: Callable[[], None],
    ) -> None:
        self.id = canary_id
        settings = ReplicaSettings.model_validate({"url": canary.url, "ca_file": canary.ca_file})
        self._replica = Replica(settings.url)
        self._pool = pool
        self._client = connect(settings)
        self._end = end
        self._loop = asyncio.get_running_loop()
        self._expires_at = self._loop.time() + LEASE
        new = ReplicaPool([self._replica], self._client, pool.settings, _FAILOVER)
        normal = UpstreamBackend(pool, guard)
        self.diversion = Diversion(
            canary, self._replica, normal, UpstreamBackend(new), self._measure_gap, limits
        )
        self._watch = asyncio.create_task(self._watch_engine())
        _log.info(
            "canary started", engine=self._replica.url, share=canary.share, mirror=canary.mirror
        )

    def report(self, after: int) -> WorkerReport:
        """Renew the lease; return the samples after the first `after` ones."""
        self._expires_at = self._loop.time() + LEASE
        diversion, listed, error = self.diversion, self._replica.models, self._replica.error
        served = {model for replica in self._pool.replicas for model in replica.models}
        models = sorted(served.intersection(listed))
        if listed and not models:
            names = [", ".join(sorted(names)) or "none" for names in (listed, served)]
            error = f"it lists other models ({names[0]}) than the gateway's engines ({names[1]})"
        return WorkerReport(
            models=models,
            error=error,
            halted=diversion.halted,
            in_progress=diversion.in_progress,
            seen=diversion.seen,
            skipped=dict(diversion.skipped),
            samples=diversion.samples[after:],
        )

    async def aclose(self) -> None:
        """Cancel all copies and close the connections."""
        self._watch.cancel()
        await asyncio.wait([self._watch])
        await self.diversion.aclose()
        await self._client.aclose()
        _log.info("canary ended", engine=self._replica.url)

    async def _watch_engine(self) -> None:
        """List the models of the engine until it responds; end the canary with its lease."""
        replica, timeout = self._replica, self._pool.settings.probe_timeout
        while True:
            if replica.state != "healthy":
                try:
                    models = await list_models(self._client, replica.target, read_timeout=timeout)
                    replica.mark_healthy(models)
                except (ModelListError, GatewayError) as error:
                    replica.mark_unreachable(str(error))
                except Exception as error:  # noqa: BLE001  # the lease must still end
                    _log.error("probe of the canary failed", exception=StackTrace(error))
                    replica.mark_unreachable(type(error).__name__)
            if self._loop.time() >= self._expires_at:
                _log.warning("canary ended: nobody has read it", engine=replica.url, seconds=LEASE)
                self._end()
                return
            await asyncio.sleep(_PROBE_INTERVAL)

    async def _measure_gap(
        self, request: GenerationRequest, ids: list[int], engine: str | None
    ) -> float | None:
        """Return the larger gap of both engines: a tie must be near at each of them."""
        model = request.model.engine_name
        gaps = [await measure_gap(self._client, self._replica.target, request, ids)]
        for replica in self._pool.replicas:
            known = replica.capabilities.get(model)
            if replica.url == engine and (known is None or known.logprobs is not False):
                gaps.append(await measure_gap(self._pool.client, replica.target, request, ids))
                break
        return max((gap for gap in gaps if gap is not None), default=None)
