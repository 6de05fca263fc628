"""MAX's format of completions with the logprobs of the prompt."""

from typing import Any

import orjson
import pytest

from maxgate.errors import UpstreamError
from maxgate.generation.chunk import Alternative, Chunk, TokenLogprob, Usage
from maxgate.generation.request import GenerationRequest, TokenIds
from maxgate.upstream.max_api.generation import parse_response, select_path, serialize_request
from tests.fakes.requests import generation_request

# As MAX 26.7 responds with --enable-echo, rounded.
TOPS = [
    {"-": -0.87, " sky": -12.07},
    {" was": -1.61, " is": -1.76},
    {",": -0.94},
    {"": -0.5},
]


def make_request(*, max_tokens: int = 2, logprobs: int = 1) -> GenerationRequest:
    request = generation_request("The sky is", prompt=TokenIds.of([504, 6376, 314]))
    sampling = request.sampling._replace(max_tokens=max_tokens, logprobs=logprobs)
    return request._replace(raw_prompt="The sky is", sampling=sampling, prompt_logprobs=True)


def make_response(tops: list[dict[str, float]]) -> bytes:
    logprobs = {"tokens": None, "token_logprobs": [[*t.values()][-1] for t in tops]}
    choice: dict[str, Any] = {"text": ",", "finish_reason": "stop", "token_ids": [28, 2]}
    choice["logprobs"] = {**logprobs, "top_logprobs": tops}
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    return orjson.dumps({"choices": [choice], "usage": usage})


@pytest.mark.parametrize(("max_tokens", "logprobs"), [(2, 5), (1, 1), (0, 1), (1, 0)])
def test_request(max_tokens: int, logprobs: int) -> None:
    """MAX generates at least one token, and reports no token without alternatives."""
    request = make_request(max_tokens=max_tokens, logprobs=logprobs)
    body = orjson.loads(serialize_request(request))
    assert {name: body.get(name) for name in ("echo", "logprobs", "max_tokens", "prompt")} == {
        "echo": True,
        "logprobs": max(logprobs, 1),
        "max_tokens": max(max_tokens, 1),
        "prompt": [504, 6376, 314],
    }
    assert (body.get("top_logprobs"), select_path(request)) == (None, "/v1/completions")


def test_response() -> None:
    """The tokens after the prompt's first have its ids; the end token is left out."""
    assert parse_response(make_response(TOPS), make_request()) == Chunk(
        ",",
        "stop",
        Usage(3, 2),
        logprobs=(TokenLogprob(",", -0.94, (Alternative(",", -0.94),), 28),),
        prompt_logprobs=(
            TokenLogprob(
                " sky", -12.07, (Alternative("-", -0.87), Alternative(" sky", -12.07)), 6376
            ),
            TokenLogprob(
                " is", -1.76, (Alternative(" was", -1.61), Alternative(" is", -1.76)), 314
            ),
        ),
    )


def test_no_tokens() -> None:
    """With `max_tokens` 0, the token that MAX generates all the same is not counted."""
    response = parse_response(make_response(TOPS), make_request(max_tokens=0, logprobs=0))
    assert response == Chunk(
        "",
        "length",
        Usage(3, 0),
        prompt_logprobs=(TokenLogprob(" sky", -12.07, id=6376), TokenLogprob(" is", -1.76, id=314)),
    )


def test_cached_prompt() -> None:
    """Logprobs that are missing, as those of a cached prefix, are an error that names the flags."""
    with pytest.raises(UpstreamError, match=r"of 3 tokens in place of 4\. .*no-enable-prefix-cach"):
        parse_response(make_response(TOPS[1:]), make_request())
