"""OpenAI's Python client with the whole gateway in front of a fake MAX."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.clients.openai_client import create_client
from tests.fakes.gateway import Gateway, StartGateway
from tests.fakes.max_server import OUTPUT_TOKENS, FakeMax, Script

HELLO = [{"role": "user", "content": "Hello"}]
TEXT = "".join(OUTPUT_TOKENS)


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    """The client, without retries."""
    async with create_client(gateway.url) as client:
        yield client


async def test_create(client: openai.AsyncOpenAI) -> None:
    """A completion has its content, finish reason, usage and request id."""
    completion = await client.chat.completions.create(model="smollm2", messages=HELLO)
    assert (completion.choices[0].message.content, completion.choices[0].finish_reason) == (
        TEXT,
        "stop",
    )
    assert completion.usage is not None
    assert completion.usage.total_tokens == 45
    assert completion._request_id is not None
    assert completion._request_id.startswith("req_")


async def test_stream(client: openai.AsyncOpenAI) -> None:
    """A stream ends with usage if requested."""
    stream = await client.chat.completions.create(
        model="smollm2",
        messages=HELLO,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert (text, chunks[-1].usage and chunks[-1].usage.total_tokens) == (TEXT, 45)


async def test_stream_helper(client: openai.AsyncOpenAI) -> None:
    """The stream helper collects the final completion."""
    async with client.chat.completions.stream(model="smollm2", messages=HELLO) as stream:
        final = await stream.get_final_completion()
    assert final.choices[0].message.content == TEXT


class Place(BaseModel):
    city: str


@pytest.mark.parametrize("grammar", [True, False])
async def test_truncated_json(start_gateway: StartGateway, *, grammar: bool) -> None:
    """JSON that 'max_tokens' truncates raises the client's own error, streamed or not."""
    script = Script(tokens=('{"city": "Ro' if grammar else "Ro",), finish_reason="length")
    engine = FakeMax(grammar=grammar, scripts=[script, script])
    async with start_gateway(engine) as gateway, create_client(gateway.url) as client:
        fields: Any = {"messages": HELLO, "response_format": Place, "max_tokens": 2}
        with pytest.raises(openai.LengthFinishReasonError):
            await client.chat.completions.parse(model="smollm2", **fields)
        with pytest.raises(openai.LengthFinishReasonError):
            async with client.chat.completions.stream(model="smollm2", **fields) as stream:
                await stream.get_final_completion()


async def test_synchronous_client(gateway: Gateway) -> None:
    """The synchronous client works, streamed or not."""

    def create_both() -> tuple[str | None, str]:
        with openai.OpenAI(base_url=gateway.url + "/v1", api_key="none") as client:
            whole = client.chat.completions.create(model="smollm2", messages=HELLO)
            stream = client.chat.completions.create(model="smollm2", messages=HELLO, stream=True)
            pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
        return whole.choices[0].message.content, "".join(pieces)

    assert await asyncio.to_thread(create_both) == (TEXT, TEXT)


async def test_models(client: openai.AsyncOpenAI) -> None:
    """Models are listed and retrieved by alias."""
    assert [model.id async for model in client.models.list()] == ["smollm2-135m-instruct"]
    assert (await client.models.retrieve("smollm2")).id == "smollm2-135m-instruct"


async def test_raw_response(client: openai.AsyncOpenAI) -> None:
    """Raw responses have the request id header."""
    raw = await client.chat.completions.with_raw_response.create(model="smollm2", messages=HELLO)
    assert raw.headers["x-request-id"].startswith("req_")
    assert raw.parse().choices[0].message.content == TEXT


async def test_errors(client: openai.AsyncOpenAI) -> None:
    """Errors are the SDK's own classes, with code and param."""
    with pytest.raises(openai.NotFoundError) as not_found:
        await client.chat.completions.create(model="gpt-4", messages=HELLO)
    assert (not_found.value.code, not_found.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as bad:
        await client.chat.completions.create(model="smollm2", messages=HELLO, temperature=2.5)
    assert (bad.value.code, bad.value.param) == ("decimal_above_max_value", "temperature")


async def test_retry(
    start_gateway: StartGateway,
) -> None:
    """The SDK retries when the engine is overloaded."""
    engine = FakeMax(scripts=[Script(status=429)])
    async with (
        start_gateway(engine) as gateway,
        openai.AsyncOpenAI(base_url=gateway.url + "/v1", api_key="none") as client,
    ):
        completion = await client.chat.completions.create(model="smollm2", messages=HELLO)
    assert completion.choices[0].message.content == TEXT
    assert len(engine.requests) == 2


async def test_truncated_stream(start_gateway: StartGateway) -> None:
    """The SDK raises if the engine breaks a stream off."""
    engine = FakeMax(scripts=[Script(cut_after=3)] * 3)
    async with (
        start_gateway(engine) as gateway,
        openai.AsyncOpenAI(base_url=gateway.url + "/v1", api_key="none") as client,
    ):
        stream = await client.chat.completions.create(model="smollm2", messages=HELLO, stream=True)
        pieces: list[str] = []
        with pytest.raises(openai.APIError, match="cut off"):
            async for chunk in stream:
                pieces.append(chunk.choices[0].delta.content or "")  # noqa: PERF401  # a comprehension would lose them
    assert "".join(pieces) == "The capital of"
