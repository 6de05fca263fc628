"""Clients limit the time of their requests; expired work is dropped wherever it is."""

import asyncio
import json

import httpx
import openai
import pytest

from tests.clients.openai_client import create_client
from tests.fakes.gateway import Gateway, StartGateway
from tests.fakes.max_server import FakeMax, Script

HELLO = [{"role": "user", "content": "Hello"}]
READ_TIMEOUT = "x-stainless-read-timeout"


async def chat(gateway: Gateway, header: str, seconds: str, **fields: object) -> httpx.Response:
    """Send a chat request with a time limit."""
    body = {"messages": HELLO, **fields}
    headers = {header: seconds}
    return await gateway.client.post("/v1/chat/completions", json=body, headers=headers)


async def read_outcomes(gateway: Gateway) -> dict[str, int]:
    """Return the outcomes of all requests."""
    metrics = (await gateway.client.get("/metrics")).json()
    outcomes: dict[str, int] = metrics["requests"]["by_outcome"]
    return outcomes


@pytest.mark.parametrize("header", ["X-Request-Timeout", READ_TIMEOUT, "X-Stainless-Timeout"])
@pytest.mark.parametrize("stream", [False, True])
async def test_before_first_token(
    start_gateway: StartGateway, header: str, *, stream: bool
) -> None:
    """A request without a first token in time gets a 504, and its engine call is cancelled once."""
    engine = FakeMax(scripts=[Script(silent_after=0)])
    async with start_gateway(engine, upstream={"cancel_grace": 0}) as gateway:
        response = await chat(gateway, header, "0.1", stream=stream)
        await engine.idle.wait()
        outcomes = await read_outcomes(gateway)
    assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert response.headers["x-should-retry"] == "false"
    assert (len(engine.requests), engine.aborted) == (1, 1)
    assert outcomes == {"timeout": 1}


async def test_stream(start_gateway: StartGateway) -> None:
    """A stream that has begun ends with an error event at the deadline of the request."""
    engine = FakeMax(scripts=[Script(silent_after=3)])
    async with start_gateway(engine) as gateway:
        response = await chat(gateway, "X-Request-Timeout", "0.2", stream=True)
        await engine.idle.wait()
        outcomes = await read_outcomes(gateway)
    *chunks, last = response.text.strip().removeprefix("data: ").split("\n\ndata: ")
    assert response.status_code == 200
    assert json.loads(last)["error"]["code"] == "deadline_exceeded"
    assert len(chunks) == 4  # the role and three tokens
    assert (len(engine.requests), engine.aborted, outcomes) == (1, 1, {"truncated": 1})


async def test_read_timeout_ends_with_first_token(start_gateway: StartGateway) -> None:
    """The timeout of an SDK does not bound a stream after its first token."""
    engine = FakeMax(scripts=[Script(silent_after=3)])
    settings = {"upstream": {"idle_timeout": 0.3}, "continuation": {"attempts": 0}}
    async with start_gateway(engine, **settings) as gateway:
        response = await chat(gateway, READ_TIMEOUT, "0.1", stream=True)
    assert "upstream_timeout" in response.text


async def test_complete_in_time(gateway: Gateway) -> None:
    """A limit changes nothing for responses that are complete in time."""
    for stream in (False, True):
        response = await chat(gateway, "X-Request-Timeout", "30", stream=stream)
        assert response.status_code == 200
        assert "deadline_exceeded" not in response.text


async def test_continuation(start_gateway: StartGateway) -> None:
    """At the deadline, the call that continues a stream is cancelled, and none follows it."""
    engine = FakeMax(scripts=[Script(cut_after=2), Script(silent_after=0)])
    async with start_gateway(engine, upstream={"cancel_grace": 0}) as gateway:
        response = await chat(gateway, "X-Request-Timeout", "0.3", stream=True)
        await engine.idle.wait()
    assert '"code":"deadline_exceeded"' in response.text
    assert (len(engine.requests), engine.aborted) == (2, 1)


async def test_choices_that_wait(start_gateway: StartGateway) -> None:
    """Choices that wait for their turn are never sent to the engine."""
    engine = FakeMax(scripts=[Script(silent_after=0)] * 8)
    async with start_gateway(engine, upstream={"max_calls_per_request": 2}) as gateway:
        response = await chat(gateway, "X-Request-Timeout", "0.1", n=8)
        await engine.idle.wait()
    assert (response.status_code, len(engine.requests)) == (504, 2)


async def test_invalid(gateway: Gateway) -> None:
    """An invalid limit is an error, a limit of an SDK that makes no sense is ignored."""
    response = await chat(gateway, "X-Request-Timeout", "5s")
    assert (response.status_code, response.json()["error"]["param"]) == (400, "X-Request-Timeout")
    assert (await chat(gateway, READ_TIMEOUT, "5s")).status_code == 200
    health = await gateway.client.get("/health", headers={"X-Request-Timeout": "5s"})
    assert health.status_code == 200


async def test_sdk_timeout(start_gateway: StartGateway) -> None:
    """When the SDK gives up, the engine call is cancelled, and its retry is announced."""
    engine = FakeMax(scripts=[Script(silent_after=0)])
    async with (
        start_gateway(engine, upstream={"cancel_grace": 0}) as gateway,
        create_client(gateway.url) as client,
    ):
        retrying = client.with_options(timeout=0.2, max_retries=1)
        completion = await retrying.chat.completions.create(model="smollm2", messages=HELLO)
        assert completion.choices[0].finish_reason == "stop"
        async with asyncio.timeout(10):
            await engine.idle.wait()
    assert (len(engine.requests), engine.aborted) == (2, 1)


async def test_sdk_does_not_retry_timeouts(start_gateway: StartGateway) -> None:
    """The SDK does not repeat a request whose time is up."""
    engine = FakeMax(scripts=[Script(silent_after=0)] * 3)
    async with start_gateway(engine) as gateway, create_client(gateway.url) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.with_options(max_retries=2).chat.completions.create(
                model="smollm2", messages=HELLO, extra_headers={"X-Request-Timeout": "0.1"}
            )
    assert caught.value.code == "deadline_exceeded"
    assert len(engine.requests) == 1
