"""What MAX is sent, and what is made of its answers."""

import orjson
import pytest

from maxgate.errors import UpstreamError
from maxgate.generation.chunk import Chunk, Usage
from maxgate.generation.request import TokenIds
from maxgate.upstream.max_api import generation as engine_wire
from tests.fakes.requests import generation_request

PROMPT = TokenIds.of([1, 2, 3])


def test_ids_go_to_completions() -> None:
    request = generation_request(prompt=PROMPT, stream=True, stop=("#",), max_tokens=7, seed=5)
    assert engine_wire.select_path(request) == "/v1/completions"
    assert orjson.loads(engine_wire.serialize_request(request)) == {
        "model": "small-on-max",
        "temperature": 1.0,
        "top_p": 1.0,
        "prompt": [1, 2, 3],
        "max_tokens": 7,
        "seed": 5,
        "stop": ["#"],
        "return_token_ids": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_messages_go_to_chat_completions() -> None:
    request = generation_request("Hello", "again")
    assert engine_wire.select_path(request) == "/v1/chat/completions"
    assert orjson.loads(engine_wire.serialize_request(request)) == {
        "model": "small-on-max",
        "temperature": 1.0,
        "top_p": 1.0,
        "messages": [
            {"role": "user", "content": "Hello"},
            {"role": "user", "content": "again"},
        ],
    }


@pytest.mark.parametrize(
    ("seed", "sent"), [(0, 0x5EED), (1, 1), (-1, 2**63 - 1), (-(2**63), 0x5EED)]
)
def test_a_seed_is_one_that_max_takes_for_a_seed(seed: int, sent: int) -> None:
    assert (
        orjson.loads(engine_wire.serialize_request(generation_request(seed=seed)))["seed"] == sent
    )


@pytest.mark.parametrize(
    "choice",
    [
        {"text": "Hi", "finish_reason": "stop"},
        {"message": {"content": "Hi"}, "finish_reason": "stop"},
    ],
)
def test_whole_answers_of_both_routes(choice: dict[str, object]) -> None:
    usage = {
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "prompt_tokens_details": {"cached_tokens": 1},
    }
    answer = orjson.dumps({"choices": [choice], "usage": usage})
    assert engine_wire.parse_response(answer, generation_request()) == Chunk(
        "Hi", "stop", Usage(3, 2, 1)
    )


@pytest.mark.parametrize(
    "answer",
    [b"", b"<html>", b"[]", b"{}", b'{"choices":[]}', b'{"choices":[{"text":"a"}]}', b"null"],
)
def test_what_is_no_answer_is_an_error(answer: bytes) -> None:
    with pytest.raises(UpstreamError):
        engine_wire.parse_response(answer, generation_request())


def test_chunks_of_both_routes_are_counted() -> None:
    for text in ({"text": "a"}, {"delta": {"content": "a"}}):
        reader = engine_wire.ChunkReader(generation_request(prompt=PROMPT, stream=True))
        chunk = orjson.dumps({"choices": [{**text, "finish_reason": None}]})
        assert [reader.parse_event(chunk), reader.parse_event(chunk)] == [
            Chunk("a", usage=Usage(3, 1)),
            Chunk("a"),
        ]
        assert reader.usage_so_far == Usage(3, 2)


def test_with_stop_strings_every_chunk_is_counted_by_its_ids() -> None:
    reader = engine_wire.ChunkReader(generation_request(stream=True, stop=("#",)))
    first = {"text": "a", "token_ids": [7], "prompt_token_ids": [1, 2, 3, 4]}
    second = {"text": "b", "token_ids": [8, 9], "finish_reason": "length"}
    read = [reader.parse_event(orjson.dumps({"choices": [choice]})) for choice in (first, second)]
    assert read == [Chunk("a", usage=Usage(4, 1)), Chunk("b", "length", Usage(4, 3))]


def test_an_error_in_the_stream_is_raised() -> None:
    reader = engine_wire.ChunkReader(generation_request(stream=True))
    with pytest.raises(UpstreamError, match="in the middle"):
        reader.parse_event(b'{"error":{"message":"boom","type":"","code":"500"}}')


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b'{"choices":[1]}', b'{"choices":[{}]}'])
def test_a_chunk_that_cannot_be_read_is_an_error(data: bytes) -> None:
    reader = engine_wire.ChunkReader(generation_request(stream=True))
    with pytest.raises(UpstreamError):
        reader.parse_event(data)
