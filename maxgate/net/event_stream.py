"""Decode server-sent events.

HTML standard, section 9.2.6: lines end with LF, CRLF or CR, an empty line ends an event, the `data`
lines of one event are joined with LF, comments and other fields are ignored.
"""

from typing import Final

MAX_EVENT_BYTES: Final = 4 * 1024 * 1024

# Integers, because `b"\r" in data` raises and catches an exception internally on every call.
_LF: Final = 10
_CR: Final = 13
_DATA: Final = b"data: "
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class EventTooLargeError(ValueError):
    """An event is larger than MAX_EVENT_BYTES."""


class EventStreamDecoder:
    """Turns received bytes into the `data` of complete events."""

    def __init__(self) -> None:
        self._rest = b""
        self._is_first = True

    def feed(self, received: bytes) -> list[bytes]:
        """Return the events that these bytes complete, in order.

        Raises EventTooLargeError.
        """
        if self._is_first:
            self._is_first = False
            received = received.removeprefix(_BYTE_ORDER_MARK)
        buffer = self._rest + received if self._rest else received
        if _CR in buffer:
            # A CR at the end may be the first half of a CRLF.
            held = b"\r" if buffer.endswith(b"\r") else b""
            whole = buffer[: len(buffer) - len(held)]
            buffer = whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n") + held
        # Fast path: most reads contain exactly one event with one line.
        if buffer.find(b"\n") == len(buffer) - 2 and buffer[:6] == _DATA and buffer[-1] == _LF:
            self._rest = b""
            return [buffer[6:-2]]
        events = buffer.split(b"\n\n")
        self._rest = events.pop()
        if len(self._rest) > MAX_EVENT_BYTES:
            raise EventTooLargeError
        found = []
        for event in events:
            if event[:6] == _DATA and _LF not in event:
                found.append(event[6:])
            elif (data := _extract_data(event)) is not None:
                found.append(data)
        return found


def _extract_data(event: bytes) -> bytes | None:
    lines = []
    for line in event.split(b"\n"):
        name, _, value = line.partition(b":")
        if name == b"data":
            lines.append(value.removeprefix(b" "))
    return b"\n".join(lines) if lines else None
