"""OpenAI's Python client creates embeddings with the gateway in front of a fake MAX."""

import asyncio
import base64
from array import array

import openai
import pytest

from tests.fakes.gateway import EMBEDDING_MODEL, Gateway


@pytest.fixture
def client(embedding_gateway: Gateway) -> openai.AsyncOpenAI:
    """OpenAI's client, without retries; each test closes it."""
    return openai.AsyncOpenAI(base_url=embedding_gateway.url + "/v1", api_key="none", max_retries=0)


async def test_create(client: openai.AsyncOpenAI, embedding_gateway: Gateway) -> None:
    """The client requests base64 and decodes it, unless a format is named."""
    async with client:
        vectors = await client.embeddings.create(model=EMBEDDING_MODEL, input=["hello", "world"])
        numbers = await client.embeddings.create(
            model=EMBEDDING_MODEL, input=["hello", "world"], encoding_format="float"
        )
        text = await client.embeddings.create(
            model=EMBEDDING_MODEL, input="hello", encoding_format="base64"
        )
    assert [entry.index for entry in vectors.data] == [0, 1]
    assert vectors.data == numbers.data
    encoded = text.data[0].embedding
    assert isinstance(encoded, str)
    assert array("f", base64.b64decode(encoded)).tolist() == vectors.data[0].embedding
    assert (vectors.model, vectors.usage.total_tokens) == (EMBEDDING_MODEL, 6)
    assert len(embedding_gateway.engine.requests) == 3


async def test_sync_client(embedding_gateway: Gateway) -> None:
    """The synchronous client sends text and token arrays."""

    def create_all() -> list[list[float]]:
        with openai.OpenAI(base_url=embedding_gateway.url + "/v1", api_key="none") as client:
            inputs = ("hello", [7592], [[7592]])
            responses = [client.embeddings.create(model=EMBEDDING_MODEL, input=i) for i in inputs]
        return [response.data[0].embedding for response in responses]

    text, ids, arrays = await asyncio.to_thread(create_all)
    assert text == ids == arrays


async def test_errors(client: openai.AsyncOpenAI) -> None:
    """Errors raise the client's own exceptions, with code and field."""
    async with client:
        with pytest.raises(openai.BadRequestError) as dimensions:
            await client.embeddings.create(model=EMBEDDING_MODEL, input="a", dimensions=256)
        with pytest.raises(openai.BadRequestError) as too_long:
            await client.embeddings.create(model=EMBEDDING_MODEL, input="word " * 300)
        with pytest.raises(openai.BadRequestError) as chat:
            await client.chat.completions.create(
                model=EMBEDDING_MODEL, messages=[{"role": "user", "content": "Hello"}]
            )
    errors = [caught.value for caught in (dimensions, too_long, chat)]
    assert [(error.param, error.code) for error in errors] == [
        ("dimensions", "unsupported_value"),
        ("input", "context_length_exceeded"),
        ("model", "unsupported_value"),
    ]
