"""Parse the body of a response into its request record.

The clock is read when the bytes arrive, so parsing may take its time.
"""

import re
from typing import Any, Final

import orjson

from maxgate.loadtest.client.request_record import RequestRecord
from maxgate.net.event_stream import EventStreamDecoder

_TEXT_FIELDS: Final = ("content", "reasoning_content", "reasoning", "text")
_FAILED_FINISH_REASONS: Final = frozenset({"error", "abort"})
_MAX_COUNT: Final = 2**53
_MAX_FAILURE_BYTES: Final = 4096
_MAX_PIECES: Final = 8
"""Pieces of a body without an event that are kept to explain a failure."""

_FIELD: Final = re.compile(rb"\s*(?:data|event|id|retry)?:")
"""Start of a line of an event, or a comment."""


class ResponseReader:
    """Takes the body of one response in pieces.

    A chunk counts as output if it holds text, reasoning, or the name or arguments of a tool call.
    """

    def __init__(self, record: RequestRecord) -> None:
        self._record = record
        self._decoder = EventStreamDecoder()
        self._last_read = -1.0
        self._uncertainty = 0.0
        self._body: list[bytes] = []

    def feed(self, data: bytes, at: float, uncertainty: float = 0.0) -> None:
        """Parse bytes stamped `at`, which may have arrived `uncertainty` seconds earlier."""
        record = self._record
        self._uncertainty = uncertainty
        if not record.stream or record.status != 200:
            self._body.append(data)
            return
        if not record.first_event and len(self._body) < _MAX_PIECES:
            self._body.append(data)
        for event in self._decoder.feed(data):
            self._read_event(event, at)

    def end(self, at: float) -> None:
        """Complete the body; sets `error` if the response was not a complete success."""
        record = self._record
        if record.status != 200:
            self._fail(f"http_{record.status}", b"".join(self._body))
        elif not record.stream:
            self._read_whole(b"".join(self._body), at)
        elif not record.first_event and not record.finished:
            self._explain_no_event(b"".join(self._body))
        elif not record.finished:
            self._fail("incomplete")
        if not record.chunks:
            self._fail("empty")

    def _fail(self, kind: str, body: bytes = b"") -> None:
        """Record a failure and the text that explains it; the first failure counts."""
        if self._record.error is None:
            self._record.error = kind
            self._record.failure = body[:_MAX_FAILURE_BYTES]

    def _explain_no_event(self, body: bytes) -> None:
        """Fail a stream without any event: it ended early, or is another document."""
        if not body.strip() or _FIELD.match(body):
            self._fail("incomplete")
            return
        try:
            is_error = bool(orjson.loads(body).get("error"))
        except (orjson.JSONDecodeError, AttributeError):
            is_error = False
        self._fail("error_body" if is_error else "not_stream", body)

    def _read_event(self, data: bytes, at: float) -> None:
        record = self._record
        if data == b"[DONE]":
            record.finished = True
            return
        if not record.first_event:
            record.first_event = at
        try:
            message = orjson.loads(data)
            if message.get("error"):
                self._fail("stream_error", data)
            elif self._read_chunk(message):
                self._add_output(at)
        except (orjson.JSONDecodeError, AttributeError, TypeError):
            self._fail("not_json", data)

    def _read_chunk(self, message: dict[str, Any]) -> bool:
        """Whether the chunk holds output; keeps its usage and finish reason."""
        if message.get("usage"):
            self._read_usage(message["usage"])
        has_output = False
        choices = message.get("choices")
        if choices is None and ("message" in message or message.get("object") == "error"):
            # The form of older servers, and of events named `error`.
            self._fail("stream_error", orjson.dumps(message))
        for choice in choices or ():
            has_output |= self._read_delta(choice.get("delta") or choice)
            if reason := choice.get("finish_reason"):
                self._finish(reason)
        return has_output

    def _finish(self, reason: object) -> None:
        self._record.finished = True
        if reason in _FAILED_FINISH_REASONS:
            self._fail(f"finish_{reason}")

    def _read_delta(self, delta: dict[str, Any]) -> bool:
        """Whether the delta holds output; keeps its text if a later turn needs it."""
        has_output = False
        for name in _TEXT_FIELDS:
            if delta.get(name):
                has_output = True
                if self._record.keep_text and name in {"content", "text"}:
                    self._record.response_text.append(str(delta[name]))
        if not has_output:
            functions = [call.get("function") or {} for call in delta.get("tool_calls") or ()]
            has_output = any(one.get("name") or one.get("arguments") for one in functions)
            has_output = has_output or bool(delta.get("refusal") or delta.get("function_call"))
        return has_output

    def _read_usage(self, usage: object) -> None:
        record = self._record
        if not isinstance(usage, dict):
            return
        record.input_tokens = _read_count(usage, "prompt_tokens")
        record.output_tokens = _read_count(usage, "completion_tokens")
        details = usage.get("prompt_tokens_details")
        if isinstance(details, dict):
            record.cached_tokens = _read_count(details, "cached_tokens")

    def _read_whole(self, body: bytes, at: float) -> None:
        try:
            message = orjson.loads(body)
            if message.get("error") or message.get("object") == "error":
                self._fail("error_body", body)
                return
            if message.get("usage"):
                self._read_usage(message["usage"])
            outputs = [self._read_delta(c.get("message") or c) for c in message["choices"]]
            for choice in message["choices"]:
                self._finish(choice.get("finish_reason"))
        except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
            self._fail("not_json", body)
            return
        if any(outputs):
            self._add_output(at)

    def _add_output(self, at: float) -> None:
        record = self._record
        record.shared += at == self._last_read
        self._last_read = at
        record.chunks += 1
        record.outputs.append(at)
        record.arrival_uncertainty.append(self._uncertainty)


def _read_count(usage: dict[str, Any], name: str) -> int:
    """A number of tokens; -1 for a server that sends null or anything else."""
    value = usage.get(name)
    return value if isinstance(value, int) and 0 <= value < _MAX_COUNT else -1
