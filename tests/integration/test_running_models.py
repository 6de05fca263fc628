"""GET /running and POST /api/models/unload, as clients of llama-swap use them."""

from typing import Any

import pytest

from maxgate.upstream.settings import derive_id
from tests.fakes.gateway import Gateway, StartGateway
from tests.fakes.max_server import FakeMax
from tests.fakes.server import serving

MODEL = "smollm2-135m-instruct"
UNREACHABLE = "http://127.0.0.1:9"


async def list_running(gateway: Gateway) -> list[dict[str, Any]]:
    """Return the running models."""
    response = await gateway.client.get("/running")
    assert response.status_code == 200
    assert response.json().keys() == {"running"}
    running: list[dict[str, Any]] = response.json()["running"]
    return running


async def drain(gateway: Gateway, url: str) -> None:
    """Drain the engine at this URL."""
    path = f"/admin/engines/{derive_id(url)}"
    assert (await gateway.client.patch(path, json={"draining": True})).status_code == 200


async def test_running(start_gateway: StartGateway) -> None:
    """Models are ready at all of their healthy engines, and stopping once all are drained."""
    async with (
        serving(FakeMax()) as first,
        serving(FakeMax(models=[MODEL, "other/model"])) as second,
        start_gateway(engines=[first, second, UNREACHABLE]) as gateway,
    ):
        small = {"model": MODEL, "state": "ready", "engines": [first, second]}
        other = {"model": "other/model", "state": "ready", "engines": [second]}
        assert await list_running(gateway) == [small, other]
        await drain(gateway, second)
        assert await list_running(gateway) == [small, {**other, "state": "stopping"}]
        await drain(gateway, first)
        assert await list_running(gateway) == [
            {**small, "state": "stopping"},
            {**other, "state": "stopping"},
        ]


async def test_nothing_running(start_gateway: StartGateway) -> None:
    """Without a healthy engine, no model runs."""
    async with start_gateway(engines=[UNREACHABLE]) as gateway:
        assert await list_running(gateway) == []


@pytest.mark.parametrize("path", ["", "/smollm2", "/org/model", "/none"])
async def test_unload(gateway: Gateway, path: str) -> None:
    """Models are not unloaded, and the error names what to do instead."""
    before = await list_running(gateway)
    response = await gateway.client.post(f"/api/models/unload{path}")
    assert response.status_code == 501
    error = response.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("server_error", None, "not_supported")
    assert "`maxgate serve --engine local`" in error["message"]
    assert await list_running(gateway) == before
