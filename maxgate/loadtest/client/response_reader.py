"""Reading an answer's body into its Exchange.

The clock was read when the bytes arrived; reading them here may take its time.
"""

from typing import Any, Final

import orjson

from maxgate.loadtest.client.request_record import Exchange

_PIECES = ("content", "reasoning_content", "reasoning", "text")

# As numbers: looking for b"\r" with `in`, bytes raise an error inside and take it back.
_LF: Final = 10
_CR: Final = 13


class AnswerReader:
    """Takes the body of one answer as it arrives.

    Event streams are read by the rules of the HTML standard, section 9.2.6. Whether an event holds
    output is decided by its content: text, reasoning, or a tool call's name or arguments.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._rest = b""
        self._last_read = -1.0
        self._held = 0.0
        self._body: list[bytes] = []

    def feed(self, data: bytes, at: float, held: float = 0.0) -> None:
        """Take in bytes that were read at this time, and may have been there for `held` seconds."""
        exchange = self._exchange
        self._held = held
        if not exchange.stream or exchange.status != 200:
            self._body.append(data)
            return
        buffer = self._rest + data if self._rest else data
        if _CR in buffer:
            half = b"\r" if buffer.endswith(b"\r") else b""  # may be half of a CRLF
            whole = buffer[: len(buffer) - len(half)]
            buffer = whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n") + half
        *events, self._rest = buffer.split(b"\n\n")
        for event in events:
            self._event(event, at)

    def end(self, at: float) -> None:
        """The body is complete."""
        exchange = self._exchange
        if exchange.status != 200:
            exchange.error = f"http_{exchange.status}"
        elif exchange.stream:
            if exchange.error is None and not exchange.finished:
                exchange.error = "incomplete"
        else:
            self._whole(b"".join(self._body), at)

    def _event(self, event: bytes, at: float) -> None:
        exchange = self._exchange
        data = _data(event)
        if data is None:
            return
        if data == b"[DONE]":
            exchange.finished = True
            return
        if not exchange.first_event:
            exchange.first_event = at
        try:
            message = orjson.loads(data)
            if message.get("error"):
                exchange.error = "stream_error"
            elif self._message(message):
                self._arrived(at)
        except (orjson.JSONDecodeError, AttributeError, TypeError):
            exchange.error = "not_json"

    def _message(self, message: dict[str, Any]) -> bool:
        """Take in one message of the stream, and say whether there is output in it."""
        if message.get("usage"):
            self._usage(message["usage"])
        output = False
        for choice in message.get("choices") or ():
            output |= self._output(choice.get("delta") or choice)
            if choice.get("finish_reason"):
                self._exchange.finished = True
        return output

    def _arrived(self, at: float) -> None:
        exchange = self._exchange
        exchange.shared += at == self._last_read
        self._last_read = at
        exchange.chunks += 1
        exchange.outputs.append(at)
        exchange.held.append(self._held)

    def _output(self, delta: dict[str, Any]) -> bool:
        """Whether there is output in it; its text is kept where a later turn needs it."""
        found = False
        for name in _PIECES:
            if delta.get(name):
                found = True
                if self._exchange.keep_text and name in {"content", "text"}:
                    self._exchange.answer_text.append(delta[name])
        if not found:
            found = any(
                (call.get("function") or {}).get("name")
                or (call.get("function") or {}).get("arguments")
                for call in delta.get("tool_calls") or ()
            )
        return found

    def _usage(self, usage: dict[str, Any]) -> None:
        exchange = self._exchange
        exchange.input_tokens = usage.get("prompt_tokens", -1)
        exchange.output_tokens = usage.get("completion_tokens", -1)
        exchange.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", -1)

    def _whole(self, body: bytes, at: float) -> None:
        try:
            message = orjson.loads(body)
            if message.get("usage"):
                self._usage(message["usage"])
            outputs = [self._output(c.get("message") or c) for c in message["choices"]]
        except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
            self._exchange.error = "not_json"
            return
        self._exchange.finished = True
        if any(outputs):
            self._arrived(at)


def _data(event: bytes) -> bytes | None:
    if event.startswith(b"data: ") and _LF not in event:
        return event[6:]
    lines = []
    for line in event.split(b"\n"):
        name, _, value = line.partition(b":")
        if name == b"data":
            lines.append(value.removeprefix(b" "))
    return b"\n".join(lines) if lines else None
