"""`langchain-openai`, against the whole gateway in front of a stand-in for MAX."""

import asyncio
from contextlib import aclosing

import openai
import pytest
from langchain_core.messages import AIMessageChunk
from langchain_openai import ChatOpenAI

from tests.fakes.gateway import Gateway, StartGateway
from tests.fakes.max_server import ANSWER, FakeMax, Script

TEXT = "".join(ANSWER)


def chat_model(gateway: Gateway, model: str = "smollm2", **fields: object) -> ChatOpenAI:
    return ChatOpenAI(
        base_url=gateway.url + "/v1", api_key="none", model=model, max_retries=0, **fields
    )


async def test_ainvoke(gateway: Gateway) -> None:
    answer = await chat_model(gateway).ainvoke("Hello")
    assert (answer.content, answer.response_metadata["finish_reason"]) == (TEXT, "stop")
    assert answer.usage_metadata == {
        "input_tokens": 37,
        "output_tokens": 8,
        "total_tokens": 45,
        "input_token_details": {"cache_read": 5},
        "output_token_details": {},
    }


async def test_invoke(gateway: Gateway) -> None:
    answer = await asyncio.to_thread(chat_model(gateway).invoke, "Hello")
    assert answer.content == TEXT


async def test_astream(gateway: Gateway) -> None:
    pieces = [piece async for piece in chat_model(gateway, stream_usage=True).astream("Hello")]
    whole = sum(pieces[1:], pieces[0])
    assert isinstance(whole, AIMessageChunk)
    assert (whole.content, whole.response_metadata["finish_reason"]) == (TEXT, "stop")
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["total_tokens"] == 45


async def test_errors_are_those_of_the_openai_sdk(gateway: Gateway) -> None:
    with pytest.raises(openai.NotFoundError) as not_found:
        await chat_model(gateway, "gpt-4").ainvoke("Hello")
    assert (not_found.value.code, not_found.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as bad:
        await chat_model(gateway, temperature=2.5).ainvoke("Hello")
    assert (bad.value.code, bad.value.param) == ("decimal_above_max_value", "temperature")


async def test_a_stream_that_is_closed_early_leaves_the_engine_too(
    start_gateway: StartGateway,
) -> None:
    engine = FakeMax(scripts=[Script(silent_after=3)])
    async with start_gateway(engine) as gateway:
        async with aclosing(chat_model(gateway).astream("Hello")) as stream:
            start = [(await anext(stream)).content for _ in range(3)]
        await asyncio.wait_for(engine.idle.wait(), 5)
    assert (start, engine.aborted) == (["", "The", " capital"], 1)
