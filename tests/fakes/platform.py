"""A platform that starts and stops the engines of a gateway."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from maxgate.app import create_app
from maxgate.settings import Settings
from maxgate.upstream.settings import ReplicaSettings
from tests.fakes.gateway import SMALL_CARD, TLS, Gateway
from tests.fakes.max_server import FakeMax
from tests.fakes.server import serving
from tests.fakes.waiting import until

MODEL = "smollm2-135m-instruct"
NO_ADDRESS = "dns+http://max.invalid:8000"
"""The name of a headless Service without a ready pod: it has no address."""


class Platform:
    """A gateway, and the engines that its name has addresses of."""

    def __init__(self, gateway: Gateway, engine_url: str, app: Any) -> None:
        self.gateway = gateway
        self._engine_url = engine_url
        self._replicas = app.state.replica_set

    def scale(self, engines: int) -> None:
        """Start or stop the engine."""
        url = self._engine_url if engines else NO_ADDRESS
        self._replicas.apply([ReplicaSettings(url=url)])

    async def read_gauge(self, name: str) -> float:
        """Return a gauge of the model that the autoscaler reads."""
        response = await self.gateway.client.get("/metrics", headers={"accept": "text/plain"})
        lines = [line for line in response.text.splitlines() if line.startswith(f"{name}{{")]
        return sum(float(line.rpartition(" ")[2]) for line in lines if MODEL in line)

    async def wait_for_queue(self, length: int) -> None:
        """Wait until the autoscaler sees so many requests."""

        async def is_reached() -> bool:
            return await self.read_gauge("maxgate_queue_length") == length

        await until(is_reached, within=10)


@asynccontextmanager
async def start(**settings: Any) -> AsyncIterator[Platform]:
    """Run a gateway that knows a model by its card, and no engine."""
    engine = FakeMax()
    async with serving(engine) as engine_url:
        chosen = {"engines": [NO_ADDRESS], "cards": [SMALL_CARD], **settings}
        app = create_app(Settings(**chosen))
        async with (
            serving(app) as url,
            httpx.AsyncClient(base_url=url, verify=TLS, timeout=20) as client,
        ):
            yield Platform(Gateway(url, engine, client), engine_url, app)
