"""What load sources send and read."""

import json

import pytest

from benchmarks.gateway import prompts
from benchmarks.gateway.http_client import Target, is_complete, is_success
from benchmarks.gateway.wrk import SCRIPT, WrkResult, parse_output


def words(text: str) -> int:
    """Every word is a token."""
    return len(text.split())


def test_wrk_says_its_result_among_other_things() -> None:
    line = (
        'RESULT {"requests":3000,"seconds":1.01,"error_responses":2,"socket_errors":1,'
        '"p50_us":90,"p99_us":700}'
    )
    output = f"Running 1s test\n  1 threads\n{line}\n"
    assert parse_output(output) == WrkResult(3000, 1.01, 2, 1, 90, 700)


def test_wrk_without_a_result_is_an_error() -> None:
    with pytest.raises(ValueError, match="unable to connect"):
        parse_output("unable to connect to 127.0.0.1\n")


def test_the_number_of_connections_that_lua_rotates_is_that_of_python() -> None:
    assert f"local CONVERSATIONS = {prompts.CONVERSATIONS}\n" in SCRIPT.read_text()


def test_a_fresh_prompt_has_the_tokens_asked_for_and_never_comes_twice() -> None:
    template = prompts.build_new_prompt(40, words)
    bodies = [prompts.fill_template(template, number) for number in (1, 2)]
    texts = [[m["content"] for m in json.loads(body)["messages"]] for body in bodies]
    assert [sum(map(words, text)) for text in texts] == [40, 40]
    assert texts[0][0] == texts[1][0]
    assert texts[0][1] != texts[1][1]
    assert len({len(body) for body in bodies}) == 1


def test_a_history_repeats_but_for_its_last_question() -> None:
    template = prompts.build_history(500, 4, words)
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
    ("answer", "complete"),
    [
        (b"HTTP/1.1 200 OK\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", True),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n", False),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", True),
    ],
)
def test_an_answer_is_complete_by_its_length_or_its_last_piece(
    answer: bytes, *, complete: bool
) -> None:
    assert is_complete(answer) is complete


def test_success_is_status_200() -> None:
    assert is_success(b"HTTP/1.1 200 OK\r\n\r\n")
    assert not is_success(b"HTTP/1.1 404 Not Found\r\n\r\n")


def test_a_head_names_the_length_and_the_target_s_own_headers() -> None:
    assert Target(80, {"x-a": "b"}).encode_head(5) == (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:80\r\n"
        b"content-type: application/json\r\ncontent-length: 5\r\nx-a: b\r\n\r\n"
    )
