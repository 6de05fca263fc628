"""OpenAI's Python client creates embeddings with the gateway in front of a fake MAX."""

import asyncio
import base64
from array import array

import openai
import pytest

from tests.clients.openai_client import create_client
from tests.fakes.gateway import EMBEDDING_MODEL, Gateway


@pytest.fixture
def client(embedding_gateway: Gateway) -> openai.AsyncOpenAI:
    """The SDK without retries; the test closes it."""
    return create_client(embedding_gateway.url)


async def test_create(client: openai.AsyncOpenAI, embedding_gateway: Gateway) -> None:
    """The SDK requests and decodes base64 unless a format is given."""
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


async def test_synchronous_client(embedding_gateway: Gateway) -> None:
    """Texts, token ids and token arrays give the same vector."""

    def create_all() -> list[list[float]]:
        with openai.OpenAI(base_url=embedding_gateway.url + "/v1", api_key="none") as client:
            given = ("hello", [7592], [[7592]])
            responses = [
                client.embeddings.create(model=EMBEDDING_MODEL, input=one) for one in given
            ]
        return [vectors.data[0].embedding for vectors in responses]

    text, ids, arrays = await asyncio.to_thread(create_all)
    assert text == ids == arrays


async def test_errors(client: openai.AsyncOpenAI) -> None:
    """Errors are the SDK's own class, with param and code."""
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
