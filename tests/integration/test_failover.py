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
# Longer than a busy machine stops a process for, shorter than `make_late_script` waits.
UPSTREAM = {"first_token_timeout": 0.6, "idle_timeout": 0.6, "response_timeout": 0.6}
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
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    [reason] = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
    return Outcome(200, join_content(chunks), reason, chunks[-1]["usage"])


def repeat(count: int, **fields: Any) -> Callable[[], list[Script]]:
    """Return a function that makes this many equal scripts."""
    return lambda: [Script(**fields) for _ in range(count)]


def make_late_script() -> list[Script]:
    """Return a script whose first token is late."""
    begins = asyncio.Event()
    asyncio.get_running_loop().call_later(1, begins.set)
    return [Script(begins=begins)]


def refuse_continuation(status: int) -> Callable[[], list[Script]]:
    """Return a function that makes scripts of a stream whose rest is refused at first."""
    return lambda: [Script(cut_after=3), Script(status=status)]


class Failure(NamedTuple):
    """Scripts of the broken engine, or of both engines, and the outcome of each request."""

    make_scripts: Callable[[], list[Script]]
    expected: Outcome = RIGHT
    is_shared: bool = False
    stream_only: bool = False


# In the order of the issue; its sixteenth, usage that is exact throughout, is part of RIGHT.
SIXTEEN = {
    "429 once": Failure(repeat(1, status=429, headers=[(b"retry-after", b"1")])),
    "429 for ever": Failure(repeat(99, status=429)),
    "503 for ever": Failure(repeat(99, status=503)),
    "500 once": Failure(repeat(1, status=500)),
    "reset": Failure(repeat(2, resets=True)),
    "silence": Failure(repeat(1, silent_after=0)),
    "late first token": Failure(make_late_script),
    "cut": Failure(repeat(1, cut_after=3)),
    "stall": Failure(repeat(1, silent_after=3, stalls_plain=True)),
    "unreadable chunk": Failure(repeat(1, garbage_after=3)),
    "missing [DONE]": Failure(repeat(1, with_done=False)),
    "context length": Failure(repeat(9, status=400, error=TOO_LONG)),
    "content filter": Failure(
        repeat(REQUESTS, finish_reason="content_filter"),
        RIGHT._replace(reason="content_filter"),
        is_shared=True,
    ),
    "refused prefill": Failure(refuse_continuation(400), is_shared=True, stream_only=True),
    "flapping": Failure(lambda: [Script(status=500), Script(), Script(cut_after=2), Script()] * 9),
}
OTHERS = {
    "404 for ever": Failure(repeat(99, status=404)),
    "500 for ever": Failure(repeat(99, status=500)),
    "429 for the continuation": Failure(refuse_continuation(429), is_shared=True, stream_only=True),
    "500 for the continuation": Failure(refuse_continuation(500), is_shared=True, stream_only=True),
    "503 for the continuation": Failure(refuse_continuation(503), is_shared=True, stream_only=True),
    "silence for ever": Failure(repeat(99, silent_after=0)),
    "cut before the first token for ever": Failure(repeat(99, cut_after=0)),
    "cut for ever": Failure(repeat(99, cut_after=3)),
    "error event": Failure(repeat(1, error_after=3)),
    "unreadable first chunk": Failure(repeat(1, garbage_after=0)),
    "aborted": Failure(repeat(1, finish_reason="abort"), stream_only=True),
    "no finish reason": Failure(repeat(1, finish_reason=None), stream_only=True),
}


@pytest.mark.parametrize(
    ("failure", "stream"),
    [
        pytest.param(failure, stream, id=f"{name}, {'stream' if stream else 'plain'}")
        for name, failure in {**SIXTEEN, **OTHERS}.items()
        for stream in ([True] if failure.stream_only else [True, False])
    ],
)
async def test_whole_response(failure: Failure, *, stream: bool) -> None:
    """Text, finish reason and usage are those of an engine that works."""
    scripts = failure.make_scripts()
    broken = FakeMax(scripts=scripts, context_length=100)
    other = FakeMax(scripts=scripts if failure.is_shared else [])
    async with start_two(broken, other) as gateway:
        outcomes = [await send(gateway, stream=stream) for _ in range(REQUESTS)]
    assert outcomes == [failure.expected] * REQUESTS
    assert broken.requests != []
    assert other.requests != []
    assert scripts == [] or not failure.is_shared


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


async def test_plain_response_is_repeated() -> None:
    """A plain response that breaks off is generated again from its start."""
    broken, other = FakeMax(scripts=[Script(cut_after=3)] * 99), FakeMax()
    async with start_two(broken, other) as gateway:
        outcomes = [await send(gateway, stream=False) for _ in range(REQUESTS)]
    assert outcomes == [RIGHT] * REQUESTS
    assert broken.requests[0]["prompt"] == other.requests[0]["prompt"]


@pytest.mark.parametrize("stream", [True, False])
async def test_adaptive_deadline(*, stream: bool) -> None:
    """A request that waits much longer than is usual moves to the other engine."""
    broken = FakeMax()
    slowness = {"min_samples": 10, "min_deadline": 0.2}
    async with start_two(broken, FakeMax(), slowness=slowness, upstream={}) as gateway:
        for _ in range(20):
            await send(gateway, stream=stream, max_tokens=20)
        broken.scripts = [Script(silent_after=0)] * 99
        outcomes = [await send(gateway, stream=stream, max_tokens=20) for _ in range(REQUESTS)]
    assert outcomes == [RIGHT] * REQUESTS
    assert broken.aborted > 0


async def test_engine_that_fails_gets_few_requests() -> None:
    """An engine that responds with 500 at once is left after a few requests."""
    broken = FakeMax(scripts=[Script(status=500)] * 999)
    async with start_two(broken, FakeMax()) as gateway:
        outcomes = [await send(gateway, stream=False) for _ in range(100)]
    assert outcomes == [RIGHT] * 100
    assert len(broken.requests) <= 10


async def test_both_engines_fail() -> None:
    """With all engines failing, each client request causes few engine calls, and an error."""
    engines = [FakeMax(scripts=[Script(status=500)] * 999) for _ in range(2)]
    async with start_two(*engines) as gateway:
        statuses = {(await send(gateway, stream=False)).status for _ in range(200)}
    assert statuses == {502}
    assert sum(len(engine.requests) for engine in engines) <= 240
