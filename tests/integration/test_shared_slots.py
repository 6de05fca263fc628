"""Workers and gateways in processes of their own share the slots of an engine."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml
from typing_extensions import override

from maxgate.admission.ledger import LEASE_SECONDS
from tests.fakes.gateway import SMALL_CARD, TLS
from tests.fakes.max_server import FakeMax
from tests.fakes.processes import ServerProcess, api_server
from tests.fakes.redis_server import start_redis
from tests.fakes.server import serving
from tests.fakes.waiting import until

BODY = {"messages": [{"role": "user", "content": "Hello"}]}
SLOTS = 5
START_TIMEOUT = 30
RENEWAL = 2.0
"""Seconds in which the others have renewed their leases, on a busy machine."""


class HoldingMax(FakeMax):
    """Responds after `end` is set; a request whose client disconnects ends, as in MAX."""

    def __init__(self, end: asyncio.Event) -> None:
        super().__init__()
        self._end = end

    @override
    async def _respond(self, path: str, body: dict[str, Any], receive: Any, send: Any) -> None:
        ended = asyncio.create_task(self._end.wait())
        gone = asyncio.create_task(receive())
        await asyncio.wait([ended, gone], return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        if not ended.cancel():
            await super()._respond(path, body, receive, send)


class Clients:
    """Clients whose requests run at the engine until `end` is called."""

    def __init__(self) -> None:
        self._end = asyncio.Event()
        self.engine = HoldingMax(self._end)
        self._tasks: list[asyncio.Task[int | None]] = []

    def send(self, server: ServerProcess, count: int) -> None:
        """Send requests, each over a connection of its own."""
        self._tasks += [asyncio.create_task(self._send(server.url)) for _ in range(count)]

    async def _send(self, url: str) -> int | None:
        try:
            async with httpx.AsyncClient(base_url=url, timeout=START_TIMEOUT, verify=TLS) as client:
                return (await client.post("/v1/chat/completions", json=BODY)).status_code
        except httpx.TransportError:
            return None

    async def wait_for(self, running: int, *, within: float) -> None:
        """Wait until this number of requests runs at the engine."""

        async def has_number() -> bool:
            return self.engine.running == running

        await until(has_number, within=within)

    async def end(self) -> Sequence[int | None]:
        """Let all requests end; returns their statuses, None for broken connections."""
        self._end.set()
        return await asyncio.gather(*self._tasks)


@asynccontextmanager
async def run_gateways(
    engine: FakeMax, folder: Path, *redis_urls: str, workers: int = 1
) -> AsyncIterator[list[ServerProcess]]:
    """Run one gateway for each Redis, all in front of the engine, which has SLOTS."""
    async with serving(engine) as engine_url, AsyncExitStack() as stack:
        config = folder / "maxgate.yaml"
        engines = [{"url": engine_url, "max_concurrency": SLOTS - 1}]  # and a spare one
        config.write_text(yaml.safe_dump({"engines": engines}))
        flags = ("--config", str(config), "--card", str(SMALL_CARD), "--log-format", "json")
        servers = []
        for url in redis_urls:
            server = api_server(*flags, "--workers", str(workers), REDIS_URL=url)
            servers.append(await stack.enter_async_context(server))
            await until(lambda: is_complete(servers[-1], workers), within=START_TIMEOUT)
        yield servers


async def is_complete(server: ServerProcess, workers: int) -> bool:
    """Whether all workers serve the model."""
    async with httpx.AsyncClient(base_url=server.url, verify=TLS) as client:
        if (await client.get("/health/ready")).status_code != 200:
            return False
        metrics = (await client.get("/metrics")).json()
        return bool(metrics["workers"] == workers)


async def read_slots(server: ServerProcess) -> float:
    """Return the gauge of the gateway's slots."""
    async with httpx.AsyncClient(base_url=server.url, verify=TLS) as client:
        response = await client.get("/metrics", headers={"accept": "text/plain"})
    [line] = [line for line in response.text.splitlines() if line.startswith("maxgate_slots{")]
    return float(line.split()[1])


def count_requests(worker: psutil.Process, server: ServerProcess) -> int:
    """Return the number of connections of clients of the worker."""
    return sum(
        connection.status == psutil.CONN_ESTABLISHED and connection.laddr.port == server.port
        for connection in worker.net_connections("tcp")
    )


def read_log(server: ServerProcess, text: str) -> list[str]:
    """Return the messages in the log of the server that contain a text."""
    messages = [json.loads(line)["message"] for line in server.lines]
    return [message for message in messages if text in message]


async def wait_for_log(server: ServerProcess, text: str) -> None:
    """Wait for a message that contains a text."""

    async def is_logged() -> bool:
        return bool(read_log(server, text))

    await until(is_logged, within=START_TIMEOUT)


async def wait_for_slots(*servers: ServerProcess) -> None:
    """Wait until the gateways together have all slots."""

    async def have_all() -> bool:
        return sum([await read_slots(server) for server in servers]) == SLOTS

    await until(have_all, within=START_TIMEOUT)


async def test_killed_worker(tmp_path: Path) -> None:
    """The other worker has the slots of a killed one within the lease; no slot is given twice."""
    clients = Clients()
    async with run_gateways(clients.engine, tmp_path, "", workers=2) as [server]:
        await wait_for_slots(server)
        clients.send(server, SLOTS)
        await clients.wait_for(SLOTS, within=START_TIMEOUT)
        killed = max(server.find_workers(), key=lambda worker: count_requests(worker, server))
        lost = count_requests(killed, server)
        killed.kill()
        await clients.wait_for(SLOTS - lost, within=RENEWAL)
        clients.send(server, lost + 1)
        await clients.wait_for(SLOTS, within=LEASE_SECONDS + RENEWAL)
        statuses = await clients.end()

    assert clients.engine.most_running == SLOTS
    assert sorted(status or 0 for status in statuses) == [0] * lost + [200] * (SLOTS + 1)


async def test_killed_gateway(tmp_path: Path) -> None:
    """Another gateway has the slots of a killed one within the lease; no slot is given twice."""
    clients = Clients()
    with start_redis() as redis:
        async with run_gateways(clients.engine, tmp_path, redis.url, redis.url) as servers:
            killed, other = servers
            await wait_for_slots(*servers)
            clients.send(killed, 2)
            await clients.wait_for(2, within=START_TIMEOUT)
            clients.send(other, SLOTS + 1)
            await clients.wait_for(SLOTS, within=START_TIMEOUT)
            workers = killed.find_workers()
            killed.process.kill()
            for worker in workers:
                worker.kill()
            await clients.wait_for(SLOTS - 2, within=RENEWAL)
            await clients.wait_for(SLOTS, within=LEASE_SECONDS + RENEWAL)
            statuses = await clients.end()

    assert clients.engine.most_running == SLOTS
    assert statuses == [None] * 2 + [200] * (SLOTS + 1)


async def test_redis_outage(tmp_path: Path) -> None:
    """While Redis does not reply, requests go on; the outage and its end are logged once."""
    clients = Clients()
    with start_redis() as redis:
        async with run_gateways(clients.engine, tmp_path, redis.url) as [server]:
            clients.send(server, 3)
            await clients.wait_for(3, within=START_TIMEOUT)
            redis.pause()
            await wait_for_log(server, "Redis is unavailable")
            clients.send(server, 1)
            await clients.wait_for(4, within=START_TIMEOUT)
            redis.resume()
            await wait_for_log(server, "Redis is available again")
            clients.send(server, 2)
            await clients.wait_for(SLOTS, within=LEASE_SECONDS + RENEWAL)
            statuses = await clients.end()
            server.process.send_signal(signal.SIGTERM)
            await server.process.wait()

    assert statuses == [200] * 6
    assert clients.engine.most_running == SLOTS
    assert read_log(server, "Redis is") == ["Redis is unavailable", "Redis is available again"]
    assert read_log(server, "slots") == []
