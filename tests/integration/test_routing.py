"""Routing policies, from the settings to the engines."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import httpx

from maxgate.app import create_app
from maxgate.settings import Settings
from tests.fakes.gateway import SMALL_CARD, TLS
from tests.fakes.max_server import FakeMax
from tests.fakes.server import serving

TURNS = 4


@asynccontextmanager
async def start_three(
    **routing: object,
) -> AsyncIterator[tuple[httpx.AsyncClient, Sequence[FakeMax]]]:
    """Run a gateway with these settings of the section `routing` in front of three engines."""
    engines = [FakeMax() for _ in range(3)]
    async with AsyncExitStack() as running:
        urls = [await running.enter_async_context(serving(engine)) for engine in engines]
        settings = Settings(engines=urls, cards=[SMALL_CARD], routing=routing)
        url = await running.enter_async_context(serving(create_app(settings)))
        yield (
            await running.enter_async_context(httpx.AsyncClient(base_url=url, verify=TLS)),
            engines,
        )


async def converse(client: httpx.AsyncClient, name: str, headers: dict[str, str]) -> None:
    """Send the turns of one conversation."""
    messages = [{"role": "user", "content": f"I am {name}. " * 20}]
    for _ in range(TURNS):
        body = {"messages": messages}
        response = await client.post("/v1/chat/completions", json=body, headers=headers)
        messages.append(response.json()["choices"][0]["message"])
        messages.append({"role": "user", "content": "Tell me more about it, please. " * 5})


async def test_prefix_affinity() -> None:
    """All turns of a conversation go to one engine, and conversations to several."""
    async with start_three(policy="prefix_affinity", block_size=32) as (client, engines):
        for number in range(12):
            await converse(client, f"number {number}", {})
        counts = [len(engine.requests) for engine in engines]
    assert [count % TURNS for count in counts] == [0, 0, 0]
    assert sum(counts) == 12 * TURNS
    assert max(counts) < 12 * TURNS


async def test_session() -> None:
    """Requests with the same session header go to one engine, sessions to several."""
    routing = {"policy": "session", "session_header": "X-Chat"}
    async with start_three(**routing) as (client, engines):
        for number in range(12):
            await converse(client, "the same", {"x-chat": str(number)})
        counts = [len(engine.requests) for engine in engines]
    assert [count % TURNS for count in counts] == [0, 0, 0]
    assert max(counts) < 12 * TURNS


async def test_user() -> None:
    """Without the header, `user` in the body names the session."""
    async with start_three(policy="session") as (client, engines):
        for _ in range(6):
            body = {"messages": [{"role": "user", "content": "Hello"}], "user": "me"}
            await client.post("/v1/chat/completions", json=body)
        assert sorted(len(engine.requests) for engine in engines) == [0, 0, 6]
        for _ in range(6):
            await client.post("/v1/completions", json={"prompt": "Hello", "user": "me"})
        assert sorted(len(engine.requests) for engine in engines) == [0, 0, 12]
