"""Metrics of several workers under plain uvicorn, in processes of their own."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import httpx

from tests.fakes.gateway import SMALL_CARD, TLS
from tests.fakes.max_server import FakeMax
from tests.fakes.processes import ServerProcess, plain_uvicorn
from tests.fakes.server import serving
from tests.fakes.waiting import until

BODY = {"messages": [{"role": "user", "content": "Hello"}]}
REQUESTS = 20


async def read_metrics(server: ServerProcess) -> Any:
    """Read the metrics over a connection of its own, which any worker may accept."""
    async with httpx.AsyncClient(base_url=server.url, verify=TLS) as client:
        return (await client.get("/metrics")).json()


async def send_requests(server: ServerProcess) -> None:
    """Send each request over a connection of its own."""
    for _ in range(REQUESTS):
        async with httpx.AsyncClient(base_url=server.url, verify=TLS) as client:
            assert (await client.post("/v1/chat/completions", json=BODY)).status_code == 200


def find_folders(directory: Path) -> list[Path]:
    """Return the folders of workers in a directory for temporary files."""
    return list(directory.glob("maxgate-workers-*"))


async def test_sums(tmp_path: Path) -> None:
    """Each worker reports all of them, a killed one included, and the last deletes their files."""
    async with serving(FakeMax()) as engine:
        environment = {
            "MAXGATE_ENGINES": engine,
            "MAXGATE_CARDS": str(SMALL_CARD),
            "TMPDIR": str(tmp_path),
        }
        async with plain_uvicorn("--workers", "2", **environment) as server:

            async def has_both() -> bool:
                return bool((await read_metrics(server))["workers"] == 2)

            await until(has_both, within=20)
            await send_requests(server)
            readings = [await read_metrics(server) for _ in range(REQUESTS)]
            assert {m["requests"]["by_outcome"]["ok"] for m in readings} == {REQUESTS}
            assert len(find_folders(tmp_path)) == 1
            killed = server.find_workers()[0]
            killed.kill()

            async def is_replaced() -> bool:
                workers = server.find_workers()
                return len(workers) == 2 and killed not in workers

            await until(is_replaced, within=20)
            await until(has_both, within=20)
            assert (await read_metrics(server))["requests"]["by_outcome"] == {"ok": REQUESTS}
            server.process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(server.process.wait(), 20)
            assert find_folders(tmp_path) == []


async def test_separate_gateways(tmp_path: Path) -> None:
    """Two gateways at once are counted apart, and one without several workers keeps no files."""
    async with serving(FakeMax()) as engine:
        environment = {"MAXGATE_ENGINES": engine, "TMPDIR": str(tmp_path)}
        async with (
            plain_uvicorn("--workers", "2", **environment) as first,
            plain_uvicorn(**environment) as second,
        ):
            await send_requests(first)
            assert (await read_metrics(first))["requests"]["count"] == REQUESTS
            metrics = await read_metrics(second)
            assert (metrics["requests"]["count"], metrics["workers"]) == (0, 1)
            assert len(find_folders(tmp_path)) == 1


async def test_leftovers(tmp_path: Path) -> None:
    """The folder of a killed supervisor is deleted by the next one."""
    leftover = tmp_path / f"maxgate-workers-{os.getuid()}-{2**22 + 1}-abc"  # no pid is that large
    leftover.mkdir()
    async with serving(FakeMax()) as engine:
        environment = {"MAXGATE_ENGINES": engine, "TMPDIR": str(tmp_path)}
        async with plain_uvicorn("--workers", "2", **environment):
            assert not leftover.exists()
