"""Embeddings on the real engine: the right vectors, exact counts, and a MAX that stays up."""

from pathlib import Path

import httpx
import numpy as np
import openai
import pytest

from tests.engine.real_gateway import RealGateway
from tests.oracles.minilm import MiniLM

pytestmark = pytest.mark.engine

MODEL = "all-minilm-l6-v2"
TEXTS = [
    "A man is eating food.",
    "Someone is having a meal.",
    "The stock market fell today.",
    "Écris «bonjour».",
    "漢字 🙂 и кириллица",
    "[SEP] is no token here",
    "word " * 254,
]


@pytest.fixture(scope="session")
def minilm(embedding_model: Path) -> MiniLM:
    """An implementation that shares nothing with MAX."""
    return MiniLM(embedding_model)


async def embed(real_gateway: RealGateway, given: object, **fields: object) -> np.ndarray:
    """The vectors, by the SDK, in base64 unless a format is named."""
    async with openai.AsyncOpenAI(base_url=real_gateway.url + "/v1", api_key="none") as client:
        answer = await client.embeddings.create(model=MODEL, input=given, **fields)  # type: ignore[call-overload]
    assert [entry.index for entry in answer.data] == list(range(len(answer.data)))
    return np.array([entry.embedding for entry in answer.data])


async def test_the_vectors_are_those_of_an_independent_implementation(
    real_gateway: RealGateway, minilm: MiniLM
) -> None:
    """In one call, filled up to the longest, and of length 1."""
    plain = [text for text in TEXTS if "[SEP]" not in text]  # the oracle's tokenizer knows it
    vectors = await embed(real_gateway, plain)
    expected = np.array([minilm.embed(text) for text in plain])
    assert np.abs(vectors - expected).max() < 2e-6
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-6)


async def test_related_sentences_are_closer_than_unrelated_ones(real_gateway: RealGateway) -> None:
    eating, meal, market = await embed(real_gateway, TEXTS[:3])
    assert eating @ meal > 0.5
    assert eating @ market < 0.1
    assert meal @ market < 0.1


async def test_every_way_to_ask_gives_the_same(real_gateway: RealGateway, minilm: MiniLM) -> None:
    """One by one or together, as text or as ids, in base64 (the SDK's own choice) or as numbers."""
    texts = TEXTS[:4]
    ids = [minilm.tokens(text) for text in texts]
    together = await embed(real_gateway, texts)
    others = [
        np.concatenate([await embed(real_gateway, text) for text in texts]),
        await embed(real_gateway, texts, encoding_format="float"),
        await embed(real_gateway, ids),
        await embed(real_gateway, [one[1:-1] for one in ids]),
    ]
    for other in others:
        assert np.abs(together - other).max() < 2e-6


async def test_usage_is_what_the_tokenizer_counts(
    real_gateway: RealGateway, minilm: MiniLM
) -> None:
    texts = TEXTS[:5]
    async with openai.AsyncOpenAI(base_url=real_gateway.url + "/v1", api_key="none") as client:
        usage = (await client.embeddings.create(model=MODEL, input=texts)).usage
    counted = sum(len(minilm.tokens(text)) for text in texts)
    assert (usage.prompt_tokens, usage.total_tokens) == (counted, counted)


async def test_many_inputs_keep_their_order(real_gateway: RealGateway) -> None:
    texts = [f"{'the ' * (number % 5)}number {number}" for number in range(200)]
    together = await embed(real_gateway, texts)
    places = [0, 31, 32, 100, 199]
    some = await embed(real_gateway, [texts[place] for place in places])
    assert np.abs(together[places] - some).max() < 2e-6


@pytest.mark.parametrize("given", [[30522], [-1], [2**62], [0], "word " * 255, "", []])
async def test_max_outlives_what_is_wrong(real_gateway: RealGateway, given: object) -> None:
    """An id outside of its vocabulary would end it."""
    async with httpx.AsyncClient(base_url=real_gateway.url, timeout=60) as client:
        refused = await client.post("/v1/embeddings", json={"input": given})
        answered = await client.post("/v1/embeddings", json={"input": "hello"})
    assert (refused.status_code, answered.status_code) == (400, 200)


async def test_requests_go_to_the_engine_that_serves_the_model(real_gateway: RealGateway) -> None:
    """Left out, `model` is the one for the task."""
    async with httpx.AsyncClient(base_url=real_gateway.url, timeout=60) as client:
        health = (await client.get("/health")).json()
        embedded = (await client.post("/v1/embeddings", json={"input": "hello"})).json()
        body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
        chatted = (await client.post("/v1/chat/completions", json=body)).json()
    assert [engine["models"] for engine in health["engines"]] == [
        ["smollm2-135m-instruct"],
        [MODEL],
    ]
    assert (embedded["model"], chatted["model"]) == (MODEL, "smollm2-135m-instruct")
