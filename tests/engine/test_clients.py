"""Real clients on the real engine read the same completion as plain HTTP."""

import asyncio

import httpx
import openai
import pytest

from tests.clients.langchain_model import chat_model
from tests.clients.openai_client import create_client
from tests.clients.programs import run_program
from tests.engine.real_gateway import RealGateway
from tests.fakes.waiting import until

pytestmark = pytest.mark.engine

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
FIELDS = {"messages": QUESTION, "temperature": 0, "max_tokens": 30}


@pytest.fixture(scope="module")
def over_http(real_gateway: RealGateway) -> dict[str, object]:
    """The completion over plain HTTP, without a client library."""
    url = real_gateway.url + "/v1/chat/completions"
    completion = httpx.post(url, json=FIELDS, timeout=120).json()
    choice = completion["choices"][0]
    assert "Paris" in choice["message"]["content"]
    return {
        "text": choice["message"]["content"],
        "finish_reason": choice["finish_reason"],
        "total_tokens": completion["usage"]["total_tokens"],
    }


def summarize(completion: openai.types.chat.ChatCompletion) -> dict[str, object]:
    """Reduce a completion to what all clients report."""
    choice = completion.choices[0]
    assert completion.usage is not None
    return {
        "text": choice.message.content,
        "finish_reason": choice.finish_reason,
        "total_tokens": completion.usage.total_tokens,
    }


async def test_openai(real_gateway: RealGateway, over_http: dict[str, object]) -> None:
    """OpenAI's Python client reads completions, raw responses, streams and errors."""
    async with create_client(real_gateway.url) as client:
        chat = client.chat.completions
        created = await chat.create(model="smollm2", **FIELDS)
        raw = await chat.with_raw_response.create(model="smollm2", **FIELDS)
        usage = {"include_usage": True}
        async with chat.stream(model="smollm2", **FIELDS, stream_options=usage) as stream:
            streamed = await stream.get_final_completion()
        with pytest.raises(openai.NotFoundError) as not_found:
            await chat.create(model="gpt-4", **FIELDS)
    assert [summarize(completion) for completion in (created, raw.parse(), streamed)] == [
        over_http
    ] * 3
    assert not_found.value.param == "model"


async def test_openai_sync(real_gateway: RealGateway, over_http: dict[str, object]) -> None:
    """OpenAI's synchronous client reads completions and streams."""

    def create_both() -> list[dict[str, object]]:
        url = real_gateway.url + "/v1"
        with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
            chat = client.chat.completions
            usage = {"include_usage": True}
            with chat.stream(model="smollm2", **FIELDS, stream_options=usage) as stream:
                streamed = stream.get_final_completion()
            return [summarize(chat.create(model="smollm2", **FIELDS)), summarize(streamed)]

    assert await asyncio.to_thread(create_both) == [over_http] * 2


async def test_openai_node(real_gateway: RealGateway, over_http: dict[str, object]) -> None:
    """OpenAI's Node client reads completions, streams and errors."""
    checks = ("create", "stream", "streamHelper", "rawResponse", "unknownModel")
    results = await run_program("openai.mjs", real_gateway.url, *checks)
    assert results.pop("unknownModel")["class"] == "NotFoundError"
    assert results == {
        "create": over_http,
        "stream": {key: over_http[key] for key in ("text", "total_tokens")},
        "streamHelper": over_http,
        "rawResponse": {**over_http, "status": 200, "sameId": True, "id": "req_"},
    }


async def test_vercel(real_gateway: RealGateway, over_http: dict[str, object]) -> None:
    """The Vercel AI SDK reads completions and streams."""
    assert await run_program("vercel.mjs", real_gateway.url, "generateText", "streamText") == {
        "generateText": over_http,
        "streamText": over_http,
    }


async def test_langchain(real_gateway: RealGateway, over_http: dict[str, object]) -> None:
    """LangChain reads completions and streams."""
    fields = {"temperature": 0, "max_tokens": 30, "stream_usage": True}
    async with chat_model(real_gateway.url, **fields) as model:
        pieces = [piece async for piece in model.astream(QUESTION)]
        completions = [await model.ainvoke(QUESTION), sum(pieces[1:], pieces[0])]
    assert [
        {
            "text": completion.content,
            "finish_reason": completion.response_metadata["finish_reason"],
            "total_tokens": (completion.usage_metadata or {}).get("total_tokens"),
        }
        for completion in completions
    ] == [over_http] * 2


@pytest.mark.parametrize("program", ["openai.mjs", "vercel.mjs"])
async def test_disconnect(real_gateway: RealGateway, program: str) -> None:
    """MAX stops computing when the client aborts its stream."""
    assert await run_program(program, real_gateway.url, "disconnect") == {
        "disconnect": {"aborted": True}
    }
    await until(real_gateway.is_idle, within=3)
