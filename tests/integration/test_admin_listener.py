"""The admin API at a listener of its own."""

import asyncio

import httpx

from tests.fakes.gateway import TLS
from tests.fakes.max_server import FakeMax
from tests.fakes.processes import api_server, free_port, run_to_end
from tests.fakes.server import serving

PATHS = ("/v1/models", "/admin/engines", "/v1/organization/projects", "/health/live")


async def read_statuses(port: int, paths: tuple[str, ...] = PATHS) -> list[int]:
    """Return the status of each path at a port."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", verify=TLS) as client:
        responses = await asyncio.gather(*map(client.get, paths))
    return [response.status_code for response in responses]


async def test_two_listeners() -> None:
    """The admin API is at the other port only, and nothing else is there but health checks."""
    admin = free_port()
    async with (
        serving(FakeMax()) as engine,
        api_server(
            *("--engine-url", engine, "--workers", "2"), MAXGATE_ADMIN__PORT=str(admin)
        ) as server,
    ):
        main = httpx.URL(server.url).port
        assert main is not None
        assert await read_statuses(main) == [200, 404, 404, 200]
        first, *others = await read_statuses(admin)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{admin}", verify=TLS) as client:
            chat = await client.post("/v1/chat/completions", json={})
    assert (first, chat.status_code) == (404, 404)
    assert others[0] == others[-1] == 200


async def test_used_port() -> None:
    """A port that another program uses is an error that names the setting."""
    port = str(free_port())
    code, output = await run_to_end(*("api_server.py", "--port", port), MAXGATE_ADMIN__PORT=port)
    assert code == 2
    assert f"cannot listen on 127.0.0.1:{port}" in output
    assert "Choose another address with admin.port or admin.host." in output
