"""Looking after engines: which are there, and what they serve."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

import httpx
import structlog

from maxgate.upstream.capabilities import probe_abilities
from maxgate.upstream.max_api.models import NotListed, list_models
from maxgate.upstream.replica import Endpoint, EngineModel
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
        endpoints: Sequence[Endpoint],
        client: httpx.AsyncClient,
        settings: UpstreamSettings,
        before_serving: BeforeServing,
        changed: Callable[[], None],
        embedding_models: Collection[str] = (),
    ) -> None:
        self._endpoints = endpoints
        self._client = client
        self._settings = settings
        self._before_serving = before_serving
        self._changed = changed
        self._embedding_models = embedding_models
        self._failures: Counter[Endpoint] = Counter()

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for endpoint in self._endpoints:
                tasks.create_task(self._watch(endpoint))

    async def probe_all(self) -> None:
        """Look at every engine once."""
        async with asyncio.TaskGroup() as tasks:
            for endpoint in self._endpoints:
                tasks.create_task(self.probe(endpoint))

    async def _watch(self, endpoint: Endpoint) -> None:
        while True:
            well = endpoint.state == "healthy"
            pause = self._settings.probe_interval if well else self._settings.probe_interval_down
            await asyncio.sleep(pause)
            await self.probe(endpoint)

    async def probe(self, endpoint: Endpoint) -> None:
        """Look at one engine, and note what is seen."""
        before = endpoint.state
        try:
            models = await list_models(
                self._client, endpoint.url, seconds=self._settings.probe_timeout
            )
        except NotListed as error:
            self._note_failure(endpoint, error)
        else:
            await self._before_serving(models)
            await self._learn_abilities(endpoint, models)
            self._failures[endpoint] = 0
            endpoint.mark_healthy(models)
            self._changed()
        if endpoint.state != before:
            _log.info(
                "engine is " + endpoint.state,
                engine=endpoint.url,
                models=sorted(endpoint.models),
                error=endpoint.error,
            )

    async def _learn_abilities(self, endpoint: Endpoint, models: Mapping[str, EngineModel]) -> None:
        # An engine that comes back may have been started with other flags.
        again = endpoint.state != "healthy"
        unknown = [
            name
            for name in models
            if name not in self._embedding_models and (again or name not in endpoint.abilities)
        ]
        if unknown:
            endpoint.abilities |= await probe_abilities(
                self._client, endpoint.url, unknown, seconds=self._settings.ability_timeout
            )

    def _note_failure(self, endpoint: Endpoint, error: NotListed) -> None:
        self._failures[endpoint] += 1
        patience = 1 if error.refused else _SLOW_PROBES_BEFORE_DOWN
        if endpoint.state != "healthy" or self._failures[endpoint] >= patience:
            endpoint.mark_unreachable(str(error))


def probe_client(transport: httpx.AsyncBaseTransport, timeout: float) -> httpx.AsyncClient:
    """A client over the transport that requests use, too."""
    return httpx.AsyncClient(transport=transport, timeout=timeout, trust_env=False)
