"""Answers come out the same, however they were abort; only output counts as output."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxgate.loadtest.client.request_record import RequestRecord
from maxgate.loadtest.client.response_reader import ResponseReader


def event(data: Any, end: bytes = b"\n\n") -> bytes:
    """One event of a stream."""
    text = data if isinstance(data, str) else json.dumps(data)
    return b"data: " + text.encode() + end


def delta(fields: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    """A chunk of a chat completion."""
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": reason}]}


ROLE = event(delta({"role": "assistant", "content": ""}))
WORD = event(delta({"content": "word"}))
STOP = event(delta({}, "stop"))
USAGE = event(
    {
        "choices": [],
        "usage": {
            "prompt_tokens": 7,
            "completion_tokens": 18,
            "prompt_tokens_details": {"cached_tokens": 3},
        },
    }
)
DONE = event("[DONE]")


def read(
    *reads: bytes, stream: bool = True, status: int = 200, keep: bool = False
) -> RequestRecord:
    """The answer that arrived in these reads, at 1 s, 2 s, ..."""
    record = RequestRecord(0, stream=stream, scheduled=0.0)
    record.status, record.keep_text = status, keep
    reader = ResponseReader(record)
    for at, data in enumerate(reads, 1):
        reader.feed(data, float(at))
    reader.end(float(len(reads)))
    return record


def test_an_eager_role_is_an_event_and_no_token() -> None:
    found = read(ROLE, WORD, WORD, STOP + DONE)
    assert (found.first_event, list(found.outputs), found.error) == (1.0, [2.0, 3.0], None)


def test_nine_tokens_in_a_chunk_are_counted_by_the_usage() -> None:
    found = read(WORD, WORD, STOP, USAGE, DONE)
    assert (found.chunks, found.output_tokens) == (2, 18)
    assert (found.input_tokens, found.cached_tokens) == (7, 3)


def test_without_usage_the_server_has_said_nothing_about_tokens() -> None:
    assert read(WORD, STOP, DONE).output_tokens == -1


def test_usage_on_every_chunk_counts_once() -> None:
    chunks = [
        event({**delta({"content": "x"}), "usage": {"prompt_tokens": 1, "completion_tokens": n}})
        for n in (1, 2, 3)
    ]
    assert read(*chunks, STOP, DONE).output_tokens == 3


def test_two_events_in_one_read_share_it() -> None:
    found = read(WORD + WORD, WORD, STOP + DONE)
    assert (list(found.outputs), found.shared) == ([1.0, 1.0, 2.0], 1)


def test_an_event_in_two_reads_arrives_with_the_second() -> None:
    found = read(WORD[:9], WORD[9:], STOP + DONE)
    assert (list(found.outputs), found.shared) == ([2.0], 0)


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_content": "hm"},
        {"reasoning": "hm"},
        {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]},
    ],
)
def test_reasoning_and_tool_calls_are_output(fields: dict[str, Any]) -> None:
    assert list(read(event(delta(fields)), STOP, DONE).outputs) == [1.0]


@given(st.lists(st.integers(0, 10_000), max_size=12), st.sampled_from([b"\n\n", b"\r\n\r\n"]))
def test_the_cuts_change_nothing_but_the_times(cuts: list[int], end: bytes) -> None:
    chunk = event(delta({"content": "é"}), end)
    whole = b": ping" + end + chunk * 3 + STOP + USAGE + DONE
    places = sorted({0, len(whole), *(abort % len(whole) for abort in cuts)})
    found = read(*(whole[a:b] for a, b in pairwise(places)), keep=True)
    assert (found.chunks, found.output_tokens, found.error) == (3, 18, None)
    assert found.response_text == ["é"] * 3


@pytest.mark.parametrize(
    ("reads", "status", "kind"),
    [
        ([WORD], 200, "incomplete"),
        ([WORD, event({"error": {"message": "boom"}})], 200, "stream_error"),
        ([WORD, event("not json"), DONE], 200, "not_json"),
        ([event([1]), DONE], 200, "not_json"),
        ([b'{"error": 1}'], 503, "http_503"),
        ([], 429, "http_429"),
    ],
)
def test_what_went_wrong_has_a_kind(reads: list[bytes], status: int, kind: str) -> None:
    assert read(*reads, status=status).error == kind


def test_an_answer_in_one_piece_is_one_output() -> None:
    body = {
        "choices": [{"message": {"role": "assistant", "content": "Hello."}}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2},
    }
    raw = json.dumps(body).encode()
    found = read(raw[:10], raw[10:], stream=False)
    assert (list(found.outputs), found.output_tokens, found.error) == ([2.0], 2, None)


def test_an_answer_that_is_not_json_is_a_failure() -> None:
    assert read(b"<html>", stream=False).error == "not_json"
