"""With a healthy second engine, clients get whole and right responses from a failing first one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from maxgate.app import create_app
from maxgate.settings import Settings
from tests.fakes.gateway import SMALL_CARD, TLS
from tests.fakes.max_server import OUTPUT_TOKENS, FakeMax, Script
from tests.fakes.server import serving
from tests.fakes.sse import DONE, read_events

WHOLE = "".join(OUTPUT_TOKENS)
FULL = b'{"error":{"message":"Server is at capacity."}}'
TOO_LONG = (
    b'{"error":{"message":"Prompt is too long: 9000 tokens exceeds the configured maximum context '
    b'length of 8192 tokens."}}'
)
FAILURES = {
    "full once": [Script(status=429, error=FULL)],
    "full for ever": [Script(status=429, error=FULL)] * 99,
    "unavailable for ever": [Script(status=503)] * 99,
    "error once": [Script(status=500)],
    "error for ever": [Script(status=500)] * 99,
    "not found": [Script(status=404)] * 99,
    "reset": [Script(cut_after=0)] * 99,
    "silence": [Script(silent_after=0)] * 99,
}
STREAM_FAILURES = {
    "cut": [Script(cut_after=3)],
    "cut for ever": [Script(cut_after=3)] * 99,
    "stall": [Script(silent_after=3)],
    "error event": [Script(error_after=3)],
    "unreadable chunk": [Script(garbage_after=3)],
    "unreadable first chunk": [Script(garbage_after=0)],
    "aborted": [Script(finish_reason="abort")],
    "no end": [Script(finish_reason=None)],  # type: ignore[arg-type]
    "no [DONE]": [Script(with_done=False)],
}


@asynccontextmanager
async def start(*engines: FakeMax, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Run a gateway in front of two engines."""
    async with serving(engines[0]) as first, serving(engines[1]) as second:
        timeouts = {"first_token_timeout": 0.3, "idle_timeout": 0.3, "response_timeout": 0.3}
        fields = {"engines": [first, second], "cards": [SMALL_CARD], "upstream": timeouts}
        app = create_app(Settings(**{**fields, **settings}))
        async with serving(app) as url, httpx.AsyncClient(base_url=url, verify=TLS) as client:
            yield client


async def ask(client: httpx.AsyncClient, *, stream: bool, **fields: Any) -> httpx.Response:
    """Send a chat request."""
    body = {"messages": [{"role": "user", "content": "Hello"}], "stream": stream, **fields}
    return await client.post("/v1/chat/completions", json=body)


def check_whole(response: httpx.Response, *, stream: bool) -> None:
    """Check text, finish reason and usage of a response."""
    if not stream:
        found = response.json()
        assert found["choices"][0]["message"]["content"] == WHOLE
        assert found["choices"][0]["finish_reason"] == "stop"
        assert found["usage"]["completion_tokens"] == 8
        return
    *events, usage, done = read_events(response.text)
    choices = [event["choices"][0] for event in events]
    assert "".join(choice["delta"].get("content") or "" for choice in choices) == WHOLE
    assert [c["finish_reason"] for c in choices if c["finish_reason"]] == ["stop"]
    assert len({event["id"] for event in events}) == 1
    assert usage["usage"]["completion_tokens"] == 8
    assert done == DONE


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("scripts", FAILURES.values(), ids=FAILURES.keys())
async def test_failure_before_the_first_token(scripts: list[Script], *, stream: bool) -> None:
    """Requests move to the other engine."""
    bad, good = FakeMax(scripts=list(scripts)), FakeMax()
    async with start(bad, good) as client:
        for _ in range(4):
            options = {"stream_options": {"include_usage": True}} if stream else {}
            check_whole(await ask(client, stream=stream, **options), stream=stream)
    assert bad.requests
    assert good.requests


@pytest.mark.parametrize("scripts", STREAM_FAILURES.values(), ids=STREAM_FAILURES.keys())
async def test_failure_in_a_stream(scripts: list[Script]) -> None:
    """Streams go on at the other engine, or at the same one."""
    bad, good = FakeMax(scripts=list(scripts)), FakeMax()
    async with start(bad, good) as client:
        for _ in range(4):
            response = await ask(client, stream=True, stream_options={"include_usage": True})
            check_whole(response, stream=True)
    assert bad.requests
    assert good.requests


async def test_plain_response_is_repeated() -> None:
    """A plain response that breaks off is generated again from its start."""
    bad, good = FakeMax(scripts=[Script(cut_after=3)] * 99), FakeMax()
    async with start(bad, good) as client:
        for _ in range(4):
            check_whole(await ask(client, stream=False), stream=False)
    assert bad.requests[0]["prompt"] == good.requests[0]["prompt"]


@pytest.mark.parametrize("stream", [True, False])
async def test_longer_context(*, stream: bool) -> None:
    """A prompt that one engine has no room for goes to the one with the longer context."""
    short = FakeMax(scripts=[Script(status=400, error=TOO_LONG)] * 99, context_length=8192)
    long = FakeMax(context_length=16384)
    async with start(short, long) as client:
        for _ in range(4):
            options = {"stream_options": {"include_usage": True}} if stream else {}
            check_whole(await ask(client, stream=stream, **options), stream=stream)


async def test_no_engine_has_room() -> None:
    """Where no engine has room, the error has OpenAI's code, and is not retried."""
    engines = [FakeMax(scripts=[Script(status=400, error=TOO_LONG)]) for _ in range(2)]
    async with start(*engines) as client:
        response = await ask(client, stream=False)
    assert (response.status_code, response.json()["error"]["code"]) == (
        400,
        "context_length_exceeded",
    )
    assert sum(len(engine.requests) for engine in engines) == 1


async def test_content_filter() -> None:
    """A filtered response is kept as it is."""
    engines = [FakeMax(scripts=[Script(finish_reason="content_filter")]) for _ in range(2)]
    async with start(*engines) as client:
        response = await ask(client, stream=False)
    assert response.json()["choices"][0]["finish_reason"] == "content_filter"
    assert sum(len(engine.requests) for engine in engines) == 1


@pytest.mark.parametrize("stream", [True, False])
async def test_late_first_token(*, stream: bool) -> None:
    """A request that waits much longer than is usual moves to the other engine."""
    bad, good = FakeMax(), FakeMax()
    slowness = {"min_samples": 10, "min_deadline": 0.2}
    async with start(bad, good, slowness=slowness, upstream={}) as client:
        for _ in range(20):
            await ask(client, stream=stream, max_tokens=20)
        bad.scripts = [Script(silent_after=0)] * 99
        for _ in range(4):
            assert (await ask(client, stream=stream, max_tokens=20)).status_code == 200
    assert bad.aborted


async def test_engine_that_fails_gets_few_requests() -> None:
    """An engine that answers 500 at once is left after a few requests."""
    bad, good = FakeMax(scripts=[Script(status=500)] * 999), FakeMax()
    async with start(bad, good) as client:
        statuses = [(await ask(client, stream=False)).status_code for _ in range(100)]
    assert set(statuses) == {200}
    assert len(bad.requests) <= 10


async def test_both_engines_fail() -> None:
    """With all engines failing, each client request causes few engine calls, and an error."""
    engines = [FakeMax(scripts=[Script(status=500)] * 999) for _ in range(2)]
    async with start(*engines) as client:
        statuses = [(await ask(client, stream=False)).status_code for _ in range(200)]
    assert set(statuses) == {502}
    assert sum(len(engine.requests) for engine in engines) <= 240
