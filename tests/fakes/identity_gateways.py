"""Gateway processes with keys in a database, and chats with those keys."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic

import httpx

from tests.fakes.api_keys import PEPPER, bearer
from tests.fakes.gateway import SMALL_CARD, TLS
from tests.fakes.max_server import FakeMax
from tests.fakes.processes import ServerProcess, api_server
from tests.fakes.server import serving

CHAT = "/v1/chat/completions"
BODY = {"messages": [{"role": "user", "content": "Hello"}]}


@asynccontextmanager
async def gateway(database: str, redis: str | None = None) -> AsyncIterator[ServerProcess]:
    """Run a gateway process with the database and the Redis at these URLs."""
    environment = {} if redis is None else {"REDIS_URL": redis}
    async with (
        serving(FakeMax()) as engine_url,
        api_server(
            MAXGATE_AUTH__MODE="keys",
            MAXGATE_AUTH__PEPPER=PEPPER,
            MAXGATE_AUTH__MAX_FAILURES="1000000",
            MAXGATE_ENGINES=engine_url,
            MAXGATE_CARDS=str(SMALL_CARD),
            DATABASE_URL=database,
            **environment,
        ) as server,
    ):
        yield server


async def chat(url: str, key: str) -> int:
    """Return the status of a chat request."""
    async with httpx.AsyncClient(base_url=url, verify=TLS, timeout=30) as client:
        return (await client.post(CHAT, json=BODY, headers=bearer(key))).status_code


@dataclass
class Load:
    """Chats with keys in turn, on several connections: how many had which status.

    `durations` are in seconds; transport errors have the status 0.
    """

    url: str
    keys: Sequence[str]
    pause: float = 0
    statuses: Counter[int] = field(default_factory=Counter)
    durations: list[float] = field(default_factory=list)

    async def run(self) -> None:
        """Send requests one after the other."""
        async with httpx.AsyncClient(base_url=self.url, verify=TLS, timeout=30) as client:
            while True:
                for key in self.keys:
                    started = monotonic()
                    try:
                        response = await client.post(CHAT, json=BODY, headers=bearer(key))
                    except httpx.HTTPError:
                        self.statuses[0] += 1
                    else:
                        self.statuses[response.status_code] += 1
                    self.durations.append(monotonic() - started)
                    await asyncio.sleep(self.pause)

    def restart(self) -> None:
        """Count from zero."""
        self.statuses.clear()
        self.durations.clear()


@asynccontextmanager
async def under_load(
    url: str, keys: Sequence[str], *, connections: int = 1, pause: float = 0
) -> AsyncIterator[Load]:
    """Send requests with known keys during the block."""
    for key in keys:
        assert await chat(url, key) == 200
    load = Load(url, keys, pause)
    tasks = [asyncio.create_task(load.run()) for _ in range(connections)]
    yield load
    assert not any(task.done() for task in tasks)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
