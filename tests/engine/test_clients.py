"""Real clients on the real engine: each reads what plain HTTP does."""

import asyncio

import httpx
import openai
import pytest

from tests.clients.langchain_model import chat_model
from tests.clients.programs import results_of
from tests.engine.real_gateway import RealGateway
from tests.fakes.waiting import until

pytestmark = pytest.mark.engine

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
ASKED = {"messages": QUESTION, "temperature": 0, "max_tokens": 30}


@pytest.fixture(scope="module")
def over_http(real_gateway: RealGateway) -> dict[str, object]:
    """The answer, read without any client."""
    url = real_gateway.url + "/v1/chat/completions"
    answer = httpx.post(url, json=ASKED, timeout=120).json()
    choice = answer["choices"][0]
    assert "Paris" in choice["message"]["content"]
    return {
        "text": choice["message"]["content"],
        "finish_reason": choice["finish_reason"],
        "total_tokens": answer["usage"]["total_tokens"],
    }


def read(answer: openai.types.chat.ChatCompletion) -> dict[str, object]:
    choice = answer.choices[0]
    assert answer.usage is not None
    return {
        "text": choice.message.content,
        "finish_reason": choice.finish_reason,
        "total_tokens": answer.usage.total_tokens,
    }


async def test_openai_for_python(real_gateway: RealGateway, over_http: dict[str, object]) -> None:
    url = real_gateway.url + "/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        chat = client.chat.completions
        created = await chat.create(model="smollm2", **ASKED)
        raw = await chat.with_raw_response.create(model="smollm2", **ASKED)
        usage = {"include_usage": True}
        async with chat.stream(model="smollm2", **ASKED, stream_options=usage) as stream:
            streamed = await stream.get_final_completion()
        with pytest.raises(openai.NotFoundError) as not_found:
            await chat.create(model="gpt-4", **ASKED)
    assert [read(answer) for answer in (created, raw.parse(), streamed)] == [over_http] * 3
    assert not_found.value.param == "model"


async def test_openai_for_python_without_asyncio(
    real_gateway: RealGateway, over_http: dict[str, object]
) -> None:
    def ask() -> list[dict[str, object]]:
        url = real_gateway.url + "/v1"
        with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
            chat = client.chat.completions
            usage = {"include_usage": True}
            with chat.stream(model="smollm2", **ASKED, stream_options=usage) as stream:
                streamed = stream.get_final_completion()
            return [read(chat.create(model="smollm2", **ASKED)), read(streamed)]

    assert await asyncio.to_thread(ask) == [over_http] * 2


async def test_openai_for_node(real_gateway: RealGateway, over_http: dict[str, object]) -> None:
    checks = ("create", "stream", "streamHelper", "rawResponse", "unknownModel")
    results = await results_of("openai.mjs", real_gateway.url, *checks)
    assert results.pop("unknownModel")["class"] == "NotFoundError"
    assert results == {
        "create": over_http,
        "stream": {key: over_http[key] for key in ("text", "total_tokens")},
        "streamHelper": over_http,
        "rawResponse": {**over_http, "status": 200, "sameId": True, "id": "req_"},
    }


async def test_the_vercel_ai_sdk(real_gateway: RealGateway, over_http: dict[str, object]) -> None:
    assert await results_of("vercel.mjs", real_gateway.url, "generateText", "streamText") == {
        "generateText": over_http,
        "streamText": over_http,
    }


async def test_langchain(real_gateway: RealGateway, over_http: dict[str, object]) -> None:
    fields = {"temperature": 0, "max_tokens": 30, "stream_usage": True}
    async with chat_model(real_gateway.url, **fields) as model:
        pieces = [piece async for piece in model.astream(QUESTION)]
        answers = [await model.ainvoke(QUESTION), sum(pieces[1:], pieces[0])]
    assert [
        {
            "text": answer.content,
            "finish_reason": answer.response_metadata["finish_reason"],
            "total_tokens": (answer.usage_metadata or {}).get("total_tokens"),
        }
        for answer in answers
    ] == [over_http] * 2


@pytest.mark.parametrize("program", ["openai.mjs", "vercel.mjs"])
async def test_a_client_that_leaves_leaves_max_too(real_gateway: RealGateway, program: str) -> None:
    assert await results_of(program, real_gateway.url, "leaves") == {"leaves": {"aborted": True}}
    await until(real_gateway.rests, within=3)
