"""A platform stops all engines of an idle model, and starts one when requests wait for it."""

import asyncio

import pytest

from tests.fakes.platform import MODEL, start


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
