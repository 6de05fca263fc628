"""Engines that fail while a second one is healthy: the client gets a whole response."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest

from tests.fakes.gateway import Gateway, start
from tests.fakes.max_server import OUTPUT_TOKENS, FakeMax, Script
from tests.fakes.server import serving
from tests.fakes.sse import join_content, read_events

WHOLE = "".join(OUTPUT_TOKENS)
MESSAGES = [{"role": "user", "content": "Hello" + " there" * 6}]
PROMPT_TOKENS = 37
REQUESTS = 4
UPSTREAM = {"first_token_timeout": 0.3, "idle_timeout": 0.3, "response_timeout": 0.3}
FILTERED = b'{"error":{"message":"no","code":"content_filter"}}'
TOO_LONG = b'{"error":{"message":"999 tokens exceeds the configured maximum context length of 64"}}'


class Outcome(NamedTuple):
    """The parts of a response that a client relies on."""

    status: int
    text: str
    reason: str | None
    usage: dict[str, Any] | None
    code: str | None = None


RIGHT = Outcome(
    200,
    WHOLE,
    "stop",
    {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": 8,
        "total_tokens": 45,
        "prompt_tokens_details": {"cached_tokens": 5},
    },
)


@asynccontextmanager
async def start_two(*engines: FakeMax, **settings: Any) -> AsyncIterator[Gateway]:
    """Run a gateway in front of these engines."""
    settings = {"upstream": UPSTREAM, **settings}
    async with (
        serving(engines[0]) as first,
        serving(engines[1]) as second,
        start(engines=[first, second], **settings) as gateway,
    ):
        yield gateway


async def send(gateway: Gateway, *, stream: bool, **fields: Any) -> Outcome:
    """Send a request and return what the client gets."""
    fields = {"messages": MESSAGES, **fields}
    if not stream:
        response = await gateway.chat(**fields)
        content = response.json()
        if response.status_code != 200:
            return Outcome(response.status_code, "", None, None, content["error"]["code"])
        [choice] = content["choices"]
        text, reason = choice["message"]["content"], choice["finish_reason"]
        return Outcome(200, text, reason, content["usage"])
    fields |= {"stream": True, "stream_options": {"include_usage": True}}
    response = await gateway.chat(**fields)
    if response.status_code != 200:
        return Outcome(response.status_code, "", None, None, response.json()["error"]["code"])
    *chunks, last = read_events(response.text)
    if last != "[DONE]":
        return Outcome(200, join_content(chunks), None, None, last["error"]["code"])
    assert len({chunk["id"] for chunk in chunks}) == 1
    reasons = [c["finish_reason"] for chunk in chunks for c in chunk["choices"]]
    return Outcome(200, join_content(chunks), reasons[-1], chunks[-1]["usage"])


def repeat(count: int, **fields: Any) -> Callable[[], list[Script]]:
    """Return a function that makes this many equal scripts."""
    return lambda: [Script(**fields) for _ in range(count)]


def late_script() -> list[Script]:
    """Return a script whose first token is late."""
    begins = asyncio.Event()
    asyncio.get_running_loop().call_later(1, begins.set)
    return [Script(begins=begins)]


RETRY_LATER = [(b"retry-after", b"1")]
FAILURES = {
    "429 once": repeat(1, status=429, headers=RETRY_LATER),
    "429 for ever": repeat(99, status=429),
    "503 for ever": repeat(99, status=503),
    "500 once": repeat(1, status=500),
    "500 for ever": repeat(99, status=500),
    "reset": repeat(2, resets=True),
    "silence": repeat(1, silent_after=0),
    "late first token": late_script,
    "cut": repeat(1, cut_after=3),
    "stall": repeat(1, silent_after=3, stalls_plain=True),
    "error event": repeat(1, error_after=3),
    "unreadable chunk": repeat(1, garbage_after=3),
    "unreadable first chunk": repeat(1, garbage_after=0),
    "without [DONE]": repeat(1, with_done=False),
    "flapping": lambda: [Script(status=500), Script(), Script(cut_after=2), Script()] * 9,
}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("failure", FAILURES)
async def test_whole_response(failure: str, *, stream: bool) -> None:
    """Text, finish reason and usage are those of an engine that works."""
    broken = FakeMax(scripts=FAILURES[failure]())
    async with start_two(broken, FakeMax()) as gateway:
        outcomes = [await send(gateway, stream=stream) for _ in range(REQUESTS)]
    assert outcomes == [RIGHT] * REQUESTS
    assert broken.requests != []


@pytest.mark.parametrize("stream", [True, False])
async def test_retry_after(*, stream: bool) -> None:
    """An engine with a Retry-After gets no request before."""
    broken = FakeMax(scripts=[Script(status=429, headers=[(b"retry-after", b"20")])])
    async with start_two(broken, FakeMax()) as gateway:
        outcomes = [await send(gateway, stream=stream) for _ in range(9)]
    assert outcomes == [RIGHT] * 9
    assert len(broken.requests) == 1


@pytest.mark.parametrize("stream", [True, False])
async def test_longer_context(*, stream: bool) -> None:
    """A prompt that does not fit into one engine's context goes to another one."""
    short = FakeMax(context_length=32)
    for engines in ((short, FakeMax()), (FakeMax(), short)):
        async with start_two(*engines) as gateway:
            outcomes = [await send(gateway, stream=stream) for _ in range(REQUESTS)]
        assert outcomes == [RIGHT] * REQUESTS
    assert short.requests == []


@pytest.mark.parametrize("stream", [True, False])
async def test_unexpected_context_length(*, stream: bool) -> None:
    """An engine that finds a prompt too long itself is left for one with a longer context."""
    short = FakeMax(context_length=100, scripts=[Script(status=400, error=TOO_LONG)] * 9)
    async with start_two(short, FakeMax()) as gateway:
        outcomes = [await send(gateway, stream=stream) for _ in range(REQUESTS)]
    assert outcomes == [RIGHT] * REQUESTS
    assert short.requests != []


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("limit", [32, 8192])
async def test_no_longer_context(limit: int, *, stream: bool) -> None:
    """The client gets OpenAI's code if no engine has room for the prompt."""
    engines = [
        FakeMax(context_length=limit, scripts=[Script(status=400, error=TOO_LONG)] * 9)
        for _ in range(2)
    ]
    async with start_two(*engines) as gateway:
        outcome = await send(gateway, stream=stream)
    assert outcome == Outcome(400, "", None, None, "context_length_exceeded")
    assert sum(len(engine.requests) for engine in engines) == (limit == 8192)


@pytest.mark.parametrize("stream", [True, False])
async def test_content_filter(*, stream: bool) -> None:
    """A refusal of a content filter is kept: it is no fault of the engine."""
    engines = [FakeMax(scripts=[Script(status=400, error=FILTERED)]) for _ in range(2)]
    async with start_two(*engines) as gateway:
        outcome = await send(gateway, stream=stream)
    assert outcome == Outcome(400, "", None, None, "content_filter")
    assert sum(len(engine.requests) for engine in engines) == 1


@pytest.mark.parametrize("stream", [True, False])
async def test_filtered_response(*, stream: bool) -> None:
    """The finish reason of a content filter is passed on."""
    engines = [FakeMax(scripts=[Script(finish_reason="content_filter")]) for _ in range(2)]
    async with start_two(*engines) as gateway:
        outcome = await send(gateway, stream=stream)
    assert outcome == RIGHT._replace(reason="content_filter")
    assert sum(len(engine.requests) for engine in engines) == 1


@pytest.mark.parametrize("status", [400, 429, 500, 503])
async def test_refused_continuation(status: int) -> None:
    """A stream whose rest an engine refuses goes on at the first one that accepts it."""
    shared = [Script(cut_after=3), Script(status=status)]
    async with start_two(FakeMax(scripts=shared), FakeMax(scripts=shared)) as gateway:
        outcome = await send(gateway, stream=True)
    assert (outcome, shared) == (RIGHT, [])
