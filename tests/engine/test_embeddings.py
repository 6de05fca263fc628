"""Embeddings on the real engine: correct vectors, exact counts, and a MAX that stays up."""

from pathlib import Path

import httpx
import numpy as np
import openai
import pytest

from tests.engine.real_gateway import RealGateway
from tests.fakes.gateway import TLS
from tests.oracles.minilm import MiniLM

pytestmark = pytest.mark.engine

MODEL = "all-minilm-l6-v2"
TEXTS = [
    "A man is eating food.",
    "Someone is having a meal.",
    "The stock market fell today.",
    "Écris «bonjour».",
    "漢字 🙂 и кириллица",
    "[SEP] is plain text here",
    "word " * 254,
]


@pytest.fixture(scope="session")
def minilm(embedding_model: Path) -> MiniLM:
    """An implementation of the model that is independent of MAX."""
    return MiniLM(embedding_model)


async def embed(real_gateway: RealGateway, inputs: object, **fields: object) -> np.ndarray:
    """Return the vectors through OpenAI's client, which requests base64 by default."""
    async with openai.AsyncOpenAI(base_url=real_gateway.url + "/v1", api_key="none") as client:
        response = await client.embeddings.create(model=MODEL, input=inputs, **fields)  # type: ignore[call-overload]
    assert [entry.index for entry in response.data] == list(range(len(response.data)))
    return np.array([entry.embedding for entry in response.data])


async def test_vectors(real_gateway: RealGateway, minilm: MiniLM) -> None:
    """A padded batch has the vectors of the reference implementation, with length 1."""
    # The reference tokenizer turns "[SEP]" into a special token.
    plain = [text for text in TEXTS if "[SEP]" not in text]
    vectors = await embed(real_gateway, plain)
    expected = np.array([minilm.embed(text) for text in plain])
    assert np.abs(vectors - expected).max() < 2e-6
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-6)


async def test_similarity(real_gateway: RealGateway) -> None:
    """Related sentences are closer than unrelated ones."""
    eating, meal, market = await embed(real_gateway, TEXTS[:3])
    assert eating @ meal > 0.5
    assert eating @ market < 0.1
    assert meal @ market < 0.1


async def test_input_formats(real_gateway: RealGateway, minilm: MiniLM) -> None:
    """Single or batched, text or ids, base64 or numbers: the vectors are the same."""
    texts = TEXTS[:4]
    ids = [minilm.tokens(text) for text in texts]
    batched = await embed(real_gateway, texts)
    variants = [
        np.concatenate([await embed(real_gateway, text) for text in texts]),
        await embed(real_gateway, texts, encoding_format="float"),
        await embed(real_gateway, ids),
        await embed(real_gateway, [one[1:-1] for one in ids]),
    ]
    for vectors in variants:
        assert np.abs(batched - vectors).max() < 2e-6


async def test_usage(real_gateway: RealGateway, minilm: MiniLM) -> None:
    """Usage is the number of tokens, special tokens included."""
    texts = TEXTS[:5]
    async with openai.AsyncOpenAI(base_url=real_gateway.url + "/v1", api_key="none") as client:
        usage = (await client.embeddings.create(model=MODEL, input=texts)).usage
    counted = sum(len(minilm.tokens(text)) for text in texts)
    assert (usage.prompt_tokens, usage.total_tokens) == (counted, counted)


async def test_order(real_gateway: RealGateway) -> None:
    """Vectors of many batches come in the order of the inputs."""
    texts = [f"{'the ' * (number % 5)}number {number}" for number in range(200)]
    batched = await embed(real_gateway, texts)
    places = [0, 31, 32, 100, 199]
    some = await embed(real_gateway, [texts[place] for place in places])
    assert np.abs(batched[places] - some).max() < 2e-6


@pytest.mark.parametrize("given", [[30522], [-1], [2**62], [0], "word " * 255, "", []])
async def test_invalid_input(real_gateway: RealGateway, given: object) -> None:
    """Invalid input does not reach MAX, which an unknown token id would crash."""
    async with httpx.AsyncClient(base_url=real_gateway.url, timeout=60, verify=TLS) as client:
        rejected = await client.post("/v1/embeddings", json={"input": given})
        accepted = await client.post("/v1/embeddings", json={"input": "hello"})
    assert (rejected.status_code, accepted.status_code) == (400, 200)


async def test_default_models(real_gateway: RealGateway) -> None:
    """Without `model`, each task goes to the engine that serves it."""
    async with httpx.AsyncClient(base_url=real_gateway.url, timeout=60, verify=TLS) as client:
        health = (await client.get("/health")).json()
        embedded = (await client.post("/v1/embeddings", json={"input": "hello"})).json()
        body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
        chatted = (await client.post("/v1/chat/completions", json=body)).json()
    assert [engine["models"] for engine in health["engines"]] == [
        ["smollm2-135m-instruct"],
        [MODEL],
    ]
    assert (embedded["model"], chatted["model"]) == (MODEL, "smollm2-135m-instruct")
