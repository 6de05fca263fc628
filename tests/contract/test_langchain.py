"""LangChain with the whole gateway in front of a fake MAX."""

import asyncio
from contextlib import aclosing

import openai
import pytest

from tests.clients.langchain_model import chat_model
from tests.fakes.gateway import Gateway, StartGateway
from tests.fakes.max_server import OUTPUT_TOKENS, FakeMax, Script

TEXT = "".join(OUTPUT_TOKENS)


async def test_ainvoke(gateway: Gateway) -> None:
    """A message has its content, finish reason and usage."""
    async with chat_model(gateway.url) as model:
        message = await model.ainvoke("Hello")
    assert (message.content, message.response_metadata["finish_reason"]) == (TEXT, "stop")
    assert message.usage_metadata == {
        "input_tokens": 37,
        "output_tokens": 8,
        "total_tokens": 45,
        "input_token_details": {"cache_read": 5},
        "output_token_details": {},
    }


async def test_invoke(gateway: Gateway) -> None:
    """The synchronous client gets the same content."""
    async with chat_model(gateway.url) as model:
        message = await asyncio.to_thread(model.invoke, "Hello")
    assert message.content == TEXT


async def test_astream(gateway: Gateway) -> None:
    """Streamed pieces add up to the message, with usage."""
    from langchain_core.messages import AIMessageChunk

    async with chat_model(gateway.url, stream_usage=True) as model:
        pieces = [piece async for piece in model.astream("Hello")]
    whole = sum(pieces[1:], pieces[0])
    assert isinstance(whole, AIMessageChunk)
    assert (whole.content, whole.response_metadata["finish_reason"]) == (TEXT, "stop")
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["total_tokens"] == 45


async def test_errors(gateway: Gateway) -> None:
    """Errors are the OpenAI SDK's own classes."""
    async with chat_model(gateway.url, "gpt-4") as unknown:
        with pytest.raises(openai.NotFoundError) as not_found:
            await unknown.ainvoke("Hello")
    assert (not_found.value.code, not_found.value.param) == ("model_not_found", "model")
    async with chat_model(gateway.url, temperature=2.5) as too_hot:
        with pytest.raises(openai.BadRequestError) as bad:
            await too_hot.ainvoke("Hello")
    assert (bad.value.code, bad.value.param) == ("decimal_above_max_value", "temperature")


async def test_early_close(
    start_gateway: StartGateway,
) -> None:
    """Closing the stream early cancels the request in the engine."""
    engine = FakeMax(scripts=[Script(silent_after=3)])
    async with start_gateway(engine) as gateway, chat_model(gateway.url) as model:
        async with aclosing(model.astream("Hello")) as stream:
            start = [(await anext(stream)).content for _ in range(3)]
        await asyncio.wait_for(engine.idle.wait(), 5)
    assert (start, engine.aborted) == (["", "The", " capital"], 1)
