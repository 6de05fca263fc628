"""Parsing of responses: what counts as output, and how streams may be split."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxgate.loadtest.client.request_record import RequestRecord
from maxgate.loadtest.client.response_reader import ResponseReader


def event(data: Any, end: bytes = b"\n\n") -> bytes:
    """An event of a stream."""
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
    """The record of a response that arrived in these reads, at 1 s, 2 s, ..."""
    record = RequestRecord(0, stream=stream, scheduled=0.0)
    record.status, record.keep_text = status, keep
    reader = ResponseReader(record)
    for at, data in enumerate(reads, 1):
        reader.feed(data, float(at))
    reader.end(float(len(reads)))
    return record


def test_role_chunk_is_not_output() -> None:
    """A chunk with only a role is an event but not output."""
    found = read(ROLE, WORD, WORD, STOP + DONE)
    assert (found.first_event, list(found.outputs), found.error) == (1.0, [2.0, 3.0], None)


def test_usage() -> None:
    """Token counts come from the usage, not from the number of chunks."""
    found = read(WORD, WORD, STOP, USAGE, DONE)
    assert (found.chunks, found.output_tokens) == (2, 18)
    assert (found.input_tokens, found.cached_tokens) == (7, 3)


def test_no_usage() -> None:
    """Without usage the token count is unknown."""
    assert read(WORD, STOP, DONE).output_tokens == -1


def test_usage_on_every_chunk() -> None:
    """The last usage counts."""
    chunks = [
        event({**delta({"content": "x"}), "usage": {"prompt_tokens": 1, "completion_tokens": n}})
        for n in (1, 2, 3)
    ]
    assert read(*chunks, STOP, DONE).output_tokens == 3


def test_two_events_in_one_read() -> None:
    """Events in one read share its timestamp and are counted as shared."""
    found = read(WORD + WORD, WORD, STOP + DONE)
    assert (list(found.outputs), found.shared) == ([1.0, 1.0, 2.0], 1)


def test_event_in_two_reads() -> None:
    """An event split over two reads arrives with the second."""
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
def test_other_output(fields: dict[str, Any]) -> None:
    """Reasoning and tool calls are output."""
    assert list(read(event(delta(fields)), STOP, DONE).outputs) == [1.0]


@given(st.lists(st.integers(0, 10_000), max_size=12), st.sampled_from([b"\n\n", b"\r\n\r\n"]))
def test_any_split(cuts: list[int], end: bytes) -> None:
    """However the stream is split, the chunks, tokens and text are the same."""
    chunk = event(delta({"content": "é"}), end)
    whole = b": ping" + end + chunk * 3 + STOP + USAGE + DONE
    places = sorted({0, len(whole), *(cut % len(whole) for cut in cuts)})
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
        ([WORD, event({"object": "error", "message": "boom"}), DONE], 200, "stream_error"),
        ([b'event: error\ndata: {"message": "boom"}\n\n', DONE], 200, "stream_error"),
        ([WORD, event(delta({}, "error")), DONE], 200, "finish_error"),
        ([WORD, event(delta({}, "abort")), DONE], 200, "finish_abort"),
        ([DONE], 200, "empty"),
        ([ROLE, STOP, USAGE, DONE], 200, "empty"),
        ([event({"choices": []}), DONE], 200, "empty"),
        ([], 200, "incomplete"),
        ([b": ping\n\n"], 200, "incomplete"),
        ([b"data: {"], 200, "incomplete"),
        ([b'{"error": {"message"', b': "boom"}}'], 200, "error_body"),
        ([b'{"choices": [{"message": {"content": "a"}}]}'], 200, "not_stream"),
        ([b"<html>", b"</html>"], 200, "not_stream"),
        ([b'{"error": 1}'], 503, "http_503"),
        ([], 429, "http_429"),
    ],
)
def test_errors(reads: list[bytes], status: int, kind: str) -> None:
    """Every failure has a kind."""
    assert read(*reads, status=status).error == kind


def test_whole_response() -> None:
    """A response without streaming is one output."""
    body = {
        "choices": [{"message": {"role": "assistant", "content": "Hello."}}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2},
    }
    raw = json.dumps(body).encode()
    found = read(raw[:10], raw[10:], stream=False)
    assert (list(found.outputs), found.output_tokens, found.error) == ([2.0], 2, None)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>", "not_json"),
        (b'{"choices": [null]}', "not_json"),
        (b'{"error": {"message": "boom"}}', "error_body"),
        (b'{"object": "error", "message": "boom"}', "error_body"),
        (b'{"choices": [{"message": {"content": "a"}, "finish_reason": "error"}]}', "finish_error"),
        (b'{"choices": [{"message": {"content": ""}, "finish_reason": "stop"}]}', "empty"),
        (b'{"choices": []}', "empty"),
    ],
)
def test_failed_whole_response(body: bytes, kind: str) -> None:
    """A whole response without output, or with an error, is a failure."""
    assert read(body, stream=False).error == kind


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": None, "completion_tokens": None, "prompt_tokens_details": None},
        {"prompt_tokens_details": {"cached_tokens": None}},
        {"prompt_tokens": "7", "completion_tokens": 1.5, "prompt_tokens_details": []},
        {"prompt_tokens": -1, "completion_tokens": 2**63},
        "free",
        [7, 2],
    ],
)
def test_unknown_usage(usage: object) -> None:
    """Token counts that are not whole numbers are unknown, and the response still succeeds."""
    found = read(WORD, STOP, event({"choices": [], "usage": usage}), DONE)
    counts = (found.input_tokens, found.output_tokens, found.cached_tokens)
    assert (counts, found.error) == ((-1, -1, -1), None)


def test_failure_text() -> None:
    """The text of the first failure is kept, up to 4,096 bytes."""
    error = event({"error": {"message": "boom"}})
    assert read(WORD, error, DONE).failure == b'{"error": {"message": "boom"}}'
    assert read(b"x" * 5000, status=500).failure == b"x" * 4096
    assert read(b"<h1>", b"Not a model</h1>").failure == b"<h1>Not a model</h1>"
