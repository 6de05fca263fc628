"""The gateway with few file descriptors, as a process of its own."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import psutil
import pytest

from tests.fakes.gateway import TLS
from tests.fakes.max_server import FakeMax
from tests.fakes.processes import ServerProcess, api_server, plain_uvicorn
from tests.fakes.server import serving

BODY = {"messages": [{"role": "user", "content": "Hello"}]}
REFUSED = (503, "gateway_out_of_resources")
LIMIT = 64


@asynccontextmanager
async def start(soft: int, hard: int) -> AsyncIterator[tuple[ServerProcess, httpx.AsyncClient]]:
    """Run the gateway with these limits; yield it and a client without keep-alive."""
    limits = httpx.Limits(max_keepalive_connections=0)
    async with (
        serving(FakeMax()) as engine,
        api_server(
            *("--engine-url", engine, "--log-format", "json"), max_open_files=(soft, hard)
        ) as server,
        httpx.AsyncClient(base_url=server.url, timeout=30, limits=limits, verify=TLS) as client,
    ):
        yield server, client


async def chat(client: httpx.AsyncClient, *, stream: bool) -> tuple[int, str | None]:
    """Send a chat request; return the status and the error code."""
    response = await client.post("/v1/chat/completions", json={**BODY, "stream": stream})
    if response.status_code == 200:
        assert not stream or response.text.endswith("data: [DONE]\n\n")
        return 200, None
    return response.status_code, response.json()["error"]["code"]


@pytest.mark.parametrize("stream", [True, False])
async def test_burst(*, stream: bool) -> None:
    """With more clients than descriptors, each gets a response, and the engine stays healthy."""
    async with start(LIMIT, LIMIT) as (server, client):
        results = Counter(await asyncio.gather(*(chat(client, stream=stream) for _ in range(200))))
        assert results.keys() == {(200, None), REFUSED}
        [engine] = (await client.get("/health")).json()["engines"]
        assert (engine["state"], engine["error"]) == ("healthy", None)
        assert await chat(client, stream=stream) == (200, None)
        metrics = (await client.get("/metrics", headers={"accept": "text/plain"})).text
        assert f"maxgate_out_of_resources_total {results[REFUSED]}.0" in metrics.splitlines()
    logged = [json.loads(line) for line in server.lines]
    refused = [line for line in logged if line.get("error_code") == REFUSED[1]]
    assert len(refused) == results[REFUSED]
    warnings = [line["message"] for line in logged if line["level"] == "warning"]
    assert f"only {LIMIT} file descriptors are allowed, two per concurrent request" in warnings
    assert warnings.count("the gateway is out of file descriptors and refuses requests") == 1


async def test_idle_connections() -> None:
    """Idle connections that take all descriptors are closed, and probes are answered meanwhile."""
    async with start(LIMIT, LIMIT) as (server, client):
        host, port = server.url.removeprefix("http://").split(":")
        idle = [await asyncio.open_connection(host, int(port)) for _ in range(150)]
        assert (await client.get("/health/live")).status_code == 200
        assert await chat(client, stream=False) == REFUSED
        for _, writer in idle:
            writer.close()
        for _, writer in idle:
            await writer.wait_closed()
        assert await chat(client, stream=False) == (200, None)


async def test_raised_limit() -> None:
    """The soft limit is raised to the hard limit at the start, so that nothing is refused."""
    async with start(LIMIT, 1000) as (server, client):
        [worker] = server.find_workers()
        assert worker.rlimit(psutil.RLIMIT_NOFILE) == (1000, 1000)
        results = await asyncio.gather(*(chat(client, stream=True) for _ in range(100)))
        assert set(results) == {(200, None)}


async def test_raised_limit_under_uvicorn() -> None:
    """Plain uvicorn raises it, too."""
    async with plain_uvicorn(max_open_files=(LIMIT, 1000)) as server:
        process = psutil.Process(server.process.pid)
        assert process.rlimit(psutil.RLIMIT_NOFILE) == (1000, 1000)
