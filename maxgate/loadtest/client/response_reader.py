"""Parse the body of a response into its request record.

The clock is read when the bytes arrive, so parsing may take its time.
"""

from typing import Any, Final

import orjson

from maxgate.loadtest.client.request_record import RequestRecord
from maxgate.net.event_stream import EventStreamDecoder

_TEXT_FIELDS: Final = ("content", "reasoning_content", "reasoning", "text")


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
        for event in self._decoder.feed(data):
            self._read_event(event, at)

    def end(self, at: float) -> None:
        """Complete the body; sets `error` if the response was not a complete success."""
        record = self._record
        if record.status != 200:
            record.error = f"http_{record.status}"
        elif record.stream:
            if record.error is None and not record.finished:
                record.error = "incomplete"
        else:
            self._read_whole(b"".join(self._body), at)

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
                record.error = "stream_error"
            elif self._read_chunk(message):
                self._add_output(at)
        except (orjson.JSONDecodeError, AttributeError, TypeError):
            record.error = "not_json"

    def _read_chunk(self, message: dict[str, Any]) -> bool:
        """Whether the chunk holds output; keeps its usage and finish reason."""
        if message.get("usage"):
            self._read_usage(message["usage"])
        has_output = False
        for choice in message.get("choices") or ():
            has_output |= self._read_delta(choice.get("delta") or choice)
            if choice.get("finish_reason"):
                self._record.finished = True
        return has_output

    def _read_delta(self, delta: dict[str, Any]) -> bool:
        """Whether the delta holds output; keeps its text if a later turn needs it."""
        has_output = False
        for name in _TEXT_FIELDS:
            if delta.get(name):
                has_output = True
                if self._record.keep_text and name in {"content", "text"}:
                    self._record.response_text.append(delta[name])
        if not has_output:
            functions = [call.get("function") or {} for call in delta.get("tool_calls") or ()]
            has_output = any(one.get("name") or one.get("arguments") for one in functions)
        return has_output

    def _read_usage(self, usage: dict[str, Any]) -> None:
        record = self._record
        record.input_tokens = usage.get("prompt_tokens", -1)
        record.output_tokens = usage.get("completion_tokens", -1)
        record.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", -1)

    def _read_whole(self, body: bytes, at: float) -> None:
        try:
            message = orjson.loads(body)
            if message.get("usage"):
                self._read_usage(message["usage"])
            outputs = [self._read_delta(c.get("message") or c) for c in message["choices"]]
        except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
            self._record.error = "not_json"
            return
        self._record.finished = True
        if any(outputs):
            self._add_output(at)

    def _add_output(self, at: float) -> None:
        record = self._record
        record.shared += at == self._last_read
        self._last_read = at
        record.chunks += 1
        record.outputs.append(at)
        record.arrival_uncertainty.append(self._uncertainty)
