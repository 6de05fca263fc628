"""Load sources send prompts and read responses."""

import json

import pytest

from benchmarks.gateway import prompts
from benchmarks.gateway.http_client import Target, is_complete, is_success
from benchmarks.gateway.wrk import SCRIPT, WrkResult, parse_output


def count_words(text: str) -> int:
    """Count the words of a text; each is one token."""
    return len(text.split())


def test_wrk_result() -> None:
    """The result is found in the output of wrk."""
    line = (
        'RESULT {"requests":3000,"seconds":1.01,"error_responses":2,"socket_errors":1,'
        '"p50_us":90,"p99_us":700}'
    )
    output = f"Running 1s test\n  1 threads\n{line}\n"
    assert parse_output(output) == WrkResult(3000, 1.01, 2, 1, 90, 700)


def test_wrk_error() -> None:
    """Output without a result raises ValueError with the output."""
    with pytest.raises(ValueError, match="unable to connect"):
        parse_output("unable to connect to 127.0.0.1\n")


def test_lua_conversations() -> None:
    """The Lua script rotates as many conversations as Python."""
    assert f"local CONVERSATIONS = {prompts.CONVERSATIONS}\n" in SCRIPT.read_text()


def test_fresh_prompt() -> None:
    """A fresh prompt has the requested number of tokens and is different each time."""
    template = prompts.build_new_prompt(40, count_words)
    bodies = [prompts.fill_template(template, number) for number in (1, 2)]
    texts = [[m["content"] for m in json.loads(body)["messages"]] for body in bodies]
    assert [sum(map(count_words, text)) for text in texts] == [40, 40]
    assert texts[0][0] == texts[1][0]
    assert texts[0][1] != texts[1][1]
    assert len({len(body) for body in bodies}) == 1


def test_history() -> None:
    """A conversation repeats its history and ends with a new question."""
    template = prompts.build_history(500, 4, count_words)
    one, again, other = (
        json.loads(prompts.fill_template(template, number))["messages"]
        for number in (3, 3 + prompts.CONVERSATIONS, 4)
    )
    assert [message["role"] for message in one] == [
        "system", "user", "assistant", "user", "assistant", "user",
    ]  # fmt: skip
    assert one[:-1] == again[:-1]
    assert one[-1] != again[-1]
    assert one[1] != other[1]


@pytest.mark.parametrize(
    ("response", "complete"),
    [
        (b"HTTP/1.1 200 OK\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", True),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n", False),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", True),
    ],
)
def test_is_complete(response: bytes, *, complete: bool) -> None:
    """A response is complete by its length or its last chunk."""
    assert is_complete(response) is complete


def test_is_success() -> None:
    """Only status 200 is a success."""
    assert is_success(b"HTTP/1.1 200 OK\r\n\r\n")
    assert not is_success(b"HTTP/1.1 404 Not Found\r\n\r\n")


def test_request_head() -> None:
    """The head has the body length and the headers of the target."""
    assert Target(80, {"x-a": "b"}).encode_head(5) == (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:80\r\n"
        b"content-type: application/json\r\ncontent-length: 5\r\nx-a: b\r\n\r\n"
    )
