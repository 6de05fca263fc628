"""POST /v1/embeddings without an SDK."""

import base64
import json
import math
from array import array
from typing import Any

import pytest

from tests.fakes.cpu_time import limit_cpu_time
from tests.fakes.gateway import EMBEDDING_MODEL, Gateway, start_with_embeddings
from tests.fakes.max_server import FakeMax, Script, create_embedding
from tests.fakes.raw_client import connect
from tests.fakes.waiting import until

CLS, HELLO, WORLD, SEP = 101, 7592, 2088, 102


def normalized_embedding(ids: list[int]) -> list[float]:
    values = create_embedding(ids)
    length = math.hypot(*values)
    return array("f", [value / length for value in values]).tolist()


async def test_text(embedding_gateway: Gateway) -> None:
    """A text gives one normalized vector and its usage."""
    response = await embedding_gateway.embed("Hello", model=EMBEDDING_MODEL, user="u")
    assert response.json() == {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": 0,
                "embedding": normalized_embedding([CLS, HELLO, SEP]),
            },
        ],
        "model": EMBEDDING_MODEL,
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    }
    assert embedding_gateway.engine.requests == [
        {"model": EMBEDDING_MODEL, "input": [[CLS, HELLO, SEP]]}
    ]


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("hello world", [[CLS, HELLO, WORLD, SEP]]),
        (["hello", "world"], [[CLS, HELLO, SEP], [CLS, WORLD, SEP]]),
        ([HELLO, WORLD], [[CLS, HELLO, WORLD, SEP]]),
        ([[HELLO], [WORLD, HELLO]], [[CLS, HELLO, SEP], [CLS, WORLD, HELLO, SEP]]),
        ([CLS, HELLO, SEP], [[CLS, HELLO, SEP]]),
        ("[SEP]", [[CLS, 1031, 19802, 1033, SEP]]),
        (" ", [[CLS, SEP]]),
    ],
)
async def test_input_kinds(embedding_gateway: Gateway, given: Any, sent: list[list[int]]) -> None:
    """Special tokens are added to every kind of input, and text cannot spell them."""
    embeddings = (await embedding_gateway.embed(given)).json()
    [request] = embedding_gateway.engine.requests
    assert request["input"] == sent
    assert [entry["embedding"] for entry in embeddings["data"]] == [
        normalized_embedding(ids) for ids in sent
    ]
    assert [entry["index"] for entry in embeddings["data"]] == list(range(len(sent)))
    assert embeddings["usage"]["total_tokens"] == sum(map(len, sent))


async def test_base64(embedding_gateway: Gateway) -> None:
    """Base64 holds the same vector."""
    embeddings = (await embedding_gateway.embed("Hello", encoding_format="base64")).json()
    vector = array("f", base64.b64decode(embeddings["data"][0]["embedding"]))
    assert vector.tolist() == normalized_embedding([CLS, HELLO, SEP])
    assert math.hypot(*vector) == pytest.approx(1, abs=1e-6)


async def test_neutral_fields(embedding_gateway: Gateway) -> None:
    """Nulls and the model's own dimensions are accepted."""
    fields = {"model": None, "encoding_format": None, "user": None}
    for dimensions in (None, 384):
        response = await embedding_gateway.embed("Hello", dimensions=dimensions, **fields)
        assert response.status_code == 200


@pytest.mark.parametrize(
    ("fields", "status", "param", "code"),
    [
        ({"input": ""}, 400, "input", "string_below_min_length"),
        ({"input": []}, 400, "input", "empty_array"),
        ({"input": [""]}, 400, "input[0]", "string_below_min_length"),
        ({"input": ["a", ""]}, 400, "input[1]", "string_below_min_length"),
        ({"input": [[]]}, 400, "input[0]", "empty_array"),
        ({"input": None}, 400, "input", "invalid_type"),
        ({"input": 1}, 400, "input", "invalid_type"),
        ({"input": {"text": "a"}}, 400, "input", "invalid_type"),
        ({"input": [None]}, 400, "input[0]", "invalid_type"),
        ({"input": ["a", 1]}, 400, "input[1]", "invalid_type"),
        ({"input": [1, "a"]}, 400, "input[1]", "invalid_type"),
        ({"input": [1.5]}, 400, "input[0]", "invalid_type"),
        ({"input": [True]}, 400, "input[0]", "invalid_type"),
        ({"input": [[1], "a"]}, 400, "input[1]", "invalid_type"),
        ({"input": [[[1]]]}, 400, "input[0][0]", "invalid_type"),
        ({"input": [30522]}, 400, "input[0][0]", "invalid_value"),
        ({"input": [[7592], [7592, -1]]}, 400, "input[1][1]", "invalid_value"),
        ({"input": [2**70]}, 400, "input[0][0]", "invalid_value"),
        ({"input": [7592, 0]}, 400, "input[0][1]", "invalid_value"),
        ({"input": ["a"] * 2049}, 400, "input", "array_above_max_length"),
        ({"input": [[7592]] * 2049}, 400, "input", "array_above_max_length"),
        ({"input": [7592] * 100_001}, 400, "input", "array_above_max_length"),
        ({"input": "word " * 255}, 400, "input", "context_length_exceeded"),
        ({"input": [7592] * 255}, 400, "input", "context_length_exceeded"),
        ({"input": ["a", "word " * 1_000_000]}, 400, "input", "context_length_exceeded"),
        ({"input": ["a"] * 300_000}, 400, "input", "array_above_max_length"),
        ({"input": [7592] * 300_000}, 400, "input", "array_above_max_length"),
        ({"input": [["a"]] * 50_000}, 400, "input[0][0]", "invalid_type"),
        ({"input": [[7592]] * 50_000}, 400, "input", "array_above_max_length"),
        ({"input": [["a"] * 200_000] * 2}, 400, "input[0][0]", "invalid_type"),
        ({"dimensions": 383}, 400, "dimensions", "unsupported_value"),
        ({"dimensions": 0}, 400, "dimensions", "integer_below_min_value"),
        ({"encoding_format": "int8"}, 400, "encoding_format", "invalid_value"),
        ({"user": "u" * 513}, 400, "user", "string_above_max_length"),
        ({"truncate": True}, 400, "truncate", "unknown_parameter"),
        ({"model": "gpt-4"}, 404, "model", "model_not_found"),
    ],
)  # fmt: skip
async def test_invalid_fields(
    embedding_gateway: Gateway, fields: dict[str, Any], status: int, param: str, code: str
) -> None:
    """Invalid requests cost less than a second of CPU time and no call of the engine."""
    with limit_cpu_time(1):  # the gateway is in this process
        response = await embedding_gateway.client.post(
            "/v1/embeddings", json={"input": "Hello", **fields}
        )
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (status, param, code)
    assert len(error["message"]) < 500
    assert embedding_gateway.engine.requests == []


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"input": "\\ud800"}', None),
        (b'{"input": [NaN]}', "input[0]"),
        (b'{"input": ' + b"[" * 100_000, None),
        (b'{"input": [1e999]}', "input[0]"),
        (b"[]", None),
    ],
)
async def test_hostile_json(embedding_gateway: Gateway, body: bytes, param: str | None) -> None:
    """Hostile JSON is rejected."""
    response = await embedding_gateway.client.post("/v1/embeddings", content=body)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, param)
    assert embedding_gateway.engine.requests == []


async def test_context_length(embedding_gateway: Gateway) -> None:
    """The error names the limit, the input and its tokens."""
    error = (await embedding_gateway.embed(["a", "word " * 255])).json()["error"]
    assert error["message"] == (
        "This model's maximum context length is 256 tokens. However, input[1] has 257 tokens, "
        "special tokens included. Split it into shorter texts."
    )
    assert (await embedding_gateway.embed("word " * 254)).status_code == 200


@pytest.mark.parametrize("piece", ["a", " ", "\x00", "👩‍🚀", "a "])
@pytest.mark.parametrize("length", [60_000, 1_000_000])
async def test_long_text(embedding_gateway: Gateway, piece: str, length: int) -> None:
    """Long text costs less than a second of CPU time, even if it has few tokens."""
    with limit_cpu_time(1):  # the gateway is in this process
        response = await embedding_gateway.embed((piece * length)[:length])
    fits = length == 60_000 and piece != "a "
    assert response.status_code == (200 if fits else 400)
    if not fits:
        many = piece == "a "
        code = "context_length_exceeded" if many else "string_above_max_length"
        assert response.json()["error"]["code"] == code


async def test_wrong_model(embedding_model: object) -> None:
    """A model for another task is rejected by name, and defaults follow the task."""
    engine = FakeMax(models=[EMBEDDING_MODEL, "smollm2-135m-instruct"])
    async with start_with_embeddings(engine) as gateway:
        refused = [
            await gateway.embed("Hello", model="smollm2"),
            await gateway.chat(model="all-minilm"),
        ]
        assert (await gateway.chat()).json()["model"] == "smollm2-135m-instruct"
        assert (await gateway.embed("Hello")).json()["model"] == EMBEDDING_MODEL
    errors = [response.json()["error"] for response in refused]
    assert [response.status_code for response in refused] == [400, 400]
    assert [(e["param"], e["code"]) for e in errors] == [("model", "unsupported_value")] * 2
    assert "'smollm2-135m-instruct' is for chat" in errors[0]["message"]
    assert "'all-minilm-l6-v2' is for embeddings" in errors[1]["message"]


async def test_no_embedding_model(gateway: Gateway) -> None:
    """Without an embedding model the error says so."""
    response = await gateway.embed("Hello")
    assert response.status_code == 404
    assert response.json()["error"] == {
        "message": "No model for embeddings is served here. GET /v1/models lists the models.",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }


async def test_missing_tokenizer(tmp_path: Any) -> None:
    """Without the tokenizer nothing is sent to the engine."""
    async with start_with_embeddings(cache_dir=tmp_path) as gateway:
        response = await gateway.embed("Hello")
    assert (response.status_code, response.headers["retry-after"]) == (503, "30")
    assert gateway.engine.requests == []


async def test_batches(
    embedding_model: object,
) -> None:
    """Many inputs are sent in batches and come back in order."""
    texts = [f"{'word ' * (number % 7)}{number}" for number in range(2048)]
    async with start_with_embeddings() as gateway:
        embeddings = (await gateway.embed(texts)).json()
        singles = [(await gateway.embed(texts[n])).json() for n in (0, 1, 31, 32, 33, 2047)]
        calls = gateway.engine.requests[:64]
        metrics = (await gateway.client.get("/metrics")).json()
    assert [len(call["input"]) for call in calls] == [32] * 64
    assert [entry["index"] for entry in embeddings["data"]] == list(range(2048))
    for place, single in zip((0, 1, 31, 32, 33, 2047), singles, strict=True):
        assert embeddings["data"][place]["embedding"] == single["data"][0]["embedding"]
    assert embeddings["usage"]["prompt_tokens"] == sum(len(i) for c in calls for i in c["input"])
    assert metrics["requests"]["by_outcome"] == {"ok": 7}


@pytest.mark.parametrize(
    ("script", "status", "code"),
    [
        (Script(status=500), 502, "upstream_error"),
        (Script(status=429), 503, "server_is_overloaded"),
    ],
)
async def test_failing_batch(
    embedding_model: object, script: Script, status: int, code: str
) -> None:
    """If one batch fails, the others are cancelled."""
    engine = FakeMax(models=[EMBEDDING_MODEL], scripts=[Script(silent_after=0), script])
    async with start_with_embeddings(engine) as gateway:
        response = await gateway.embed(["Hello"] * 320)
        await engine.idle.wait()
        metrics = (await gateway.client.get("/metrics")).json()
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert (len(engine.requests), engine.aborted) == (2, 1)
    assert sum(metrics["requests"]["by_outcome"].values()) == 1
    assert metrics["requests"]["in_flight"] == 0


async def test_disconnect(embedding_model: object) -> None:
    """If the client disconnects, all batches are cancelled."""
    engine = FakeMax(models=[EMBEDDING_MODEL], scripts=[Script(silent_after=0)] * 2)
    async with start_with_embeddings(engine) as gateway:
        _, writer = await connect(gateway.url)
        body = json.dumps({"input": ["Hello"] * 320}).encode()
        head = b"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
        writer.write(head % len(body) + body)

        async def both_batches_arrived() -> bool:
            return len(engine.requests) == 2

        await until(both_batches_arrived)
        writer.close()
        await engine.idle.wait()
        metrics = (await gateway.client.get("/metrics")).json()
        health = (await gateway.client.get("/health")).json()
    assert (len(engine.requests), engine.aborted) == (2, 2)
    assert metrics["requests"]["by_outcome"] == {"client_gone": 1}
    assert health["engines"][0]["in_flight"] == 0


async def test_timeout(embedding_model: object) -> None:
    """A silent engine times out."""
    engine = FakeMax(models=[EMBEDDING_MODEL], scripts=[Script(silent_after=0)])
    async with start_with_embeddings(engine, upstream={"response_timeout": 0.05}) as gateway:
        response = await gateway.embed("Hello")
        await engine.idle.wait()
    assert (response.status_code, response.json()["error"]["code"]) == (504, "upstream_timeout")


async def test_metrics(embedding_gateway: Gateway) -> None:
    """Metrics count the tokens."""
    await embedding_gateway.embed(["hello world", "hello"])
    metrics = (await embedding_gateway.client.get("/metrics")).json()
    assert metrics["tokens"]["prompt"] == 7
    assert metrics["requests"]["by_outcome"] == {"ok": 1}
