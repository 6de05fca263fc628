"""A platform stops all engines of an idle model, and starts one when requests wait for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

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


@pytest.mark.parametrize("stream", [False, True])
async def test_held_requests(small_model: object, *, stream: bool) -> None:
    """Requests wait from zero engines to the first one, where the autoscaler counts them."""
    async with start(swap={"scale_up_time": 120}) as platform:
        chats = [asyncio.create_task(platform.gateway.chat(stream=stream)) for _ in range(3)]
        await platform.wait_for_queue(3)
        platform.scale(1)
        responses = await asyncio.gather(*chats)
        await platform.wait_for_queue(0)
        assert [response.status_code for response in responses] == [200, 200, 200]
        assert [float(r.headers["x-maxgate-queue-ms"]) > 0 for r in responses] == [True] * 3


async def test_back_to_zero(small_model: object) -> None:
    """A gateway that has known engines holds requests again after the last one has gone."""
    async with start(swap={"scale_up_time": 120}) as platform:
        for _ in range(2):
            chat = asyncio.create_task(platform.gateway.chat())
            await platform.wait_for_queue(1)
            platform.scale(1)
            assert (await chat).status_code == 200
            platform.scale(0)
        ready = await platform.gateway.client.get("/health/ready")
        assert ready.status_code == 200  # or no request would reach a gateway that can hold it
        listed = (await platform.gateway.client.get("/v1/models")).json()
        assert [model["id"] for model in listed["data"]] == [MODEL]


async def test_full_queue() -> None:
    """Beyond the queue, `Retry-After` is what is left of the time that an engine needs."""
    settings = {"swap": {"scale_up_time": 120}, "admission": {"max_queue": 1}}
    async with start(**settings) as platform:
        chat = asyncio.create_task(platform.gateway.chat())
        await platform.wait_for_queue(1)
        refused = await platform.gateway.chat()
        chat.cancel()
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_not_running")
        assert 100 <= int(refused.headers["retry-after"]) <= 130


async def test_without_setting() -> None:
    """By default, requests get a 503 at once, and unknown models a 404."""
    async with start() as platform:
        refused = await platform.gateway.chat(model=MODEL)
        unknown = await platform.gateway.chat(model="gpt-9")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
        assert unknown.status_code == 404
        probes = [f"/health/{name}" for name in ("live", "ready")]
        statuses = [(await platform.gateway.client.get(path)).status_code for path in probes]
        assert statuses == [200, 200]
