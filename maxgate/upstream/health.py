"""Looking after engines: which are there, and what they serve."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

import httpx
import structlog

from maxgate.upstream.capabilities import probe_capabilities
from maxgate.upstream.max_api.models import ModelListError, list_models
from maxgate.upstream.replica import EngineModel, Replica
from maxgate.upstream.settings import UpstreamSettings

BeforeServing = Callable[[Collection[str]], Awaitable[None]]

# An engine under load may be slow to list its models; one that refuses connections is gone.
_SLOW_PROBES_BEFORE_DOWN = 3

_log = structlog.get_logger()


class HealthMonitor:
    """Asks every engine for its models, again and again.

    An engine counts as healthy once `before_serving` has been through with the names of the
    models it lists, and was asked what they can do, but for `embedding_models`. `changed` is
    called when it has been noted as such.
    """

    def __init__(
        self,
        replicas: Sequence[Replica],
        client: httpx.AsyncClient,
        settings: UpstreamSettings,
        before_serving: BeforeServing,
        changed: Callable[[], None],
        embedding_models: Collection[str] = (),
    ) -> None:
        self._endpoints = replicas
        self._client = client
        self._settings = settings
        self._before_serving = before_serving
        self._changed = changed
        self._embedding_models = embedding_models
        self._failures: Counter[Replica] = Counter()

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for replica in self._endpoints:
                tasks.create_task(self._watch(replica))

    async def probe_all(self) -> None:
        """Look at every engine once."""
        async with asyncio.TaskGroup() as tasks:
            for replica in self._endpoints:
                tasks.create_task(self.probe(replica))

    async def _watch(self, replica: Replica) -> None:
        while True:
            well = replica.state == "healthy"
            pause = (
                self._settings.probe_interval if well else self._settings.unhealthy_probe_interval
            )
            await asyncio.sleep(pause)
            await self.probe(replica)

    async def probe(self, replica: Replica) -> None:
        """Look at one engine, and note what is seen."""
        before = replica.state
        try:
            models = await list_models(
                self._client, replica.url, seconds=self._settings.probe_timeout
            )
        except ModelListError as error:
            self._note_failure(replica, error)
        else:
            await self._before_serving(models)
            await self._probe_capabilities(replica, models)
            self._failures[replica] = 0
            replica.mark_healthy(models)
            self._changed()
        if replica.state != before:
            _log.info(
                "engine is " + replica.state,
                engine=replica.url,
                models=sorted(replica.models),
                error=replica.error,
            )

    async def _probe_capabilities(
        self, replica: Replica, models: Mapping[str, EngineModel]
    ) -> None:
        # An engine that comes back may have been started with other flags.
        again = replica.state != "healthy"
        unknown = [
            name
            for name in models
            if name not in self._embedding_models and (again or name not in replica.capabilities)
        ]
        if unknown:
            replica.capabilities |= await probe_capabilities(
                self._client, replica.url, unknown, seconds=self._settings.capability_probe_timeout
            )

    def _note_failure(self, replica: Replica, error: ModelListError) -> None:
        self._failures[replica] += 1
        patience = 1 if error.refused else _SLOW_PROBES_BEFORE_DOWN
        if replica.state != "healthy" or self._failures[replica] >= patience:
            replica.mark_unreachable(str(error))


def probe_client(transport: httpx.AsyncBaseTransport, timeout: float) -> httpx.AsyncClient:
    """A client over the transport that requests use, too."""
    return httpx.AsyncClient(transport=transport, timeout=timeout, trust_env=False)
