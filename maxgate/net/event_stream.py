"""Reading an event stream.

The rules are those of the HTML standard, section 9.2.6: lines end with LF, CRLF or CR, an empty
line ends an event, `data` lines of one event are joined with LF, comments and other fields are
passed over.
"""

from typing import Final

# As numbers: looking for b"\r" with `in`, bytes raise an error inside and take it back.
_LF: Final = 10
_CR: Final = 13
_DATA: Final = b"data: "


class EventStreamDecoder:
    """Takes bytes as they arrive and gives back the `data` of every event that is complete."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, received: bytes) -> list[bytes]:
        """The events that these bytes complete, in order."""
        buffer = self._rest + received if self._rest else received
        if _CR in buffer:
            # A CR at the end may be the first half of a CRLF.
            held = b"\r" if buffer.endswith(b"\r") else b""
            whole = buffer[: len(buffer) - len(held)]
            buffer = whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n") + held
        # Most of what arrives is one event of one line.
        if buffer.find(b"\n") == len(buffer) - 2 and buffer[:6] == _DATA and buffer[-1] == _LF:
            self._rest = b""
            return [buffer[6:-2]]
        *events, self._rest = buffer.split(b"\n\n")
        return [data for event in events if (data := _data(event)) is not None]


def _data(event: bytes) -> bytes | None:
    if event.startswith(_DATA) and _LF not in event:
        return event[6:]
    lines = []
    for line in event.split(b"\n"):
        name, _, value = line.partition(b":")
        if name == b"data":
            lines.append(value.removeprefix(b" "))
    return b"\n".join(lines) if lines else None
