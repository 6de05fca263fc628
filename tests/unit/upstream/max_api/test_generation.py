"""Requests in MAX's format, and MAX's responses and chunks as ours."""

import orjson
import pytest

from maxgate.errors import UpstreamError
from maxgate.generation.chunk import Chunk, TokenLogprob, Usage
from maxgate.generation.request import TokenIds
from maxgate.upstream.max_api.generation import (
    ChunkReader,
    parse_response,
    select_path,
    serialize_request,
)
from tests.fakes.requests import generation_request, served_model

PROMPT = TokenIds.of([1, 2, 3])


def test_token_ids() -> None:
    """Token ids go to the completions route."""
    request = generation_request(prompt=PROMPT, stream=True, stop=("#",), max_tokens=7, seed=5)
    assert select_path(request) == "/v1/completions"
    assert orjson.loads(serialize_request(request)) == {
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


@pytest.mark.parametrize(
    ("requested", "default", "prompt", "sent"),
    [
        (None, None, PROMPT, None),
        (None, 50, PROMPT, 50),
        (7, 50, PROMPT, 7),
        (70, 50, PROMPT, 70),
        (None, 500, PROMPT, 97),  # of a context of 100
        (None, 500, None, 500),
    ],
)
def test_max_tokens(
    requested: int | None, default: int | None, prompt: TokenIds | None, sent: int | None
) -> None:
    """The model's default applies if the request has no limit, and never exceeds the context."""
    model = served_model(max_tokens=default)
    request = generation_request(model=model, prompt=prompt, max_tokens=requested)
    assert orjson.loads(serialize_request(request)).get("max_tokens") == sent


def test_messages() -> None:
    """Messages go to the chat route."""
    request = generation_request("Hello", "again")
    assert select_path(request) == "/v1/chat/completions"
    assert orjson.loads(serialize_request(request)) == {
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
def test_seed(seed: int, sent: int) -> None:
    """Every seed is sent as a value that MAX does not treat as unset."""
    assert orjson.loads(serialize_request(generation_request(seed=seed)))["seed"] == sent


@pytest.mark.parametrize(
    "choice",
    [
        {"text": "Hi", "finish_reason": "stop"},
        {"message": {"content": "Hi"}, "finish_reason": "stop"},
    ],
)
def test_plain_response(choice: dict[str, object]) -> None:
    """Responses of both routes become one chunk."""
    usage = {
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "prompt_tokens_details": {"cached_tokens": 1},
    }
    response = orjson.dumps({"choices": [choice], "usage": usage})
    assert parse_response(response, generation_request()) == Chunk("Hi", "stop", Usage(3, 2, 1))


@pytest.mark.parametrize("ids", [[7, 8, 2], [7, 8], [7], None])
def test_logprobs(ids: list[int] | None) -> None:
    """Logprobs carry the ids of their tokens where given; the end token is left out."""
    texts = ("a", "\ufffd", "")
    content = [{"token": text, "logprob": -0.5, "top_logprobs": []} for text in texts]
    choice = {"message": {"content": "a"}, "finish_reason": "stop", "token_ids": ids}
    usage = {"prompt_tokens": 3, "completion_tokens": 3}
    response = {"choices": [{**choice, "logprobs": {"content": content}}], "usage": usage}
    request = generation_request(prompt=PROMPT)
    request = request._replace(sampling=request.sampling._replace(logprobs=0))
    known = [*(ids or ()), None, None]
    assert parse_response(orjson.dumps(response), request).logprobs == (
        TokenLogprob("a", -0.5, id=known[0]),
        TokenLogprob("\ufffd", -0.5, id=known[1]),
    )
    assert orjson.loads(serialize_request(request))["return_token_ids"] is True


@pytest.mark.parametrize(
    "response",
    [b"", b"<html>", b"[]", b"{}", b'{"choices":[]}', b'{"choices":[{"text":"a"}]}', b"null"],
)
def test_invalid_response(response: bytes) -> None:
    """Invalid responses are errors."""
    with pytest.raises(UpstreamError):
        parse_response(response, generation_request())


def test_chunks() -> None:
    """Chunks of both routes are counted; the first one carries the usage so far."""
    for text in ({"text": "a"}, {"delta": {"content": "a"}}):
        reader = ChunkReader(generation_request(prompt=PROMPT, stream=True))
        chunk = orjson.dumps({"choices": [{**text, "finish_reason": None}]})
        assert [reader.parse_event(chunk), reader.parse_event(chunk)] == [
            Chunk("a", usage=Usage(3, 1)),
            Chunk("a"),
        ]
        assert reader.usage_so_far == Usage(3, 2)


def test_running_usage() -> None:
    """With stop strings every chunk carries the usage so far, counted by its token ids."""
    reader = ChunkReader(generation_request(stream=True, stop=("#",)))
    first = {"text": "a", "token_ids": [7], "prompt_token_ids": [1, 2, 3, 4]}
    second = {"text": "b", "token_ids": [8, 9], "finish_reason": "length"}
    read = [reader.parse_event(orjson.dumps({"choices": [choice]})) for choice in (first, second)]
    assert read == [Chunk("a", usage=Usage(4, 1)), Chunk("b", "length", Usage(4, 3))]


def test_error_in_stream() -> None:
    """An error event is raised."""
    reader = ChunkReader(generation_request(stream=True))
    with pytest.raises(UpstreamError, match="in the middle"):
        reader.parse_event(b'{"error":{"message":"boom","type":"","code":"500"}}')


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b'{"choices":[1]}', b'{"choices":[{}]}'])
def test_invalid_chunk(data: bytes) -> None:
    """Invalid chunks are errors."""
    reader = ChunkReader(generation_request(stream=True))
    with pytest.raises(UpstreamError):
        reader.parse_event(data)
