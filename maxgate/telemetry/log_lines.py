"""Lines of JSON on their way to a stream."""

import asyncio
from typing import Any, BinaryIO, Final

import orjson

_HELD_AT_MOST: Final = 256


class LogLines:
    """Writes one JSON object a line; structlog may use it as the logger that it wraps.

    What is written with `soon` in one turn of the event loop goes out at its end with a single
    system call, so that a busy gateway does not make one per request. Nothing is held longer: a
    loop that ends takes its turn to the end.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._held: list[bytes] = []

    def soon(self, fields: dict[str, Any]) -> None:
        """Write these fields when the loop's turn ends; at once where no loop is running."""
        self._held.append(orjson.dumps(fields, option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE))
        if len(self._held) == 1:
            try:
                asyncio.get_running_loop().call_soon(self._flush)
            except RuntimeError:
                self._flush()
        elif len(self._held) > _HELD_AT_MOST:
            self._flush()

    def msg(self, line: bytes) -> None:
        """Write this line at once, after what is held."""
        self._held.append(line + b"\n")
        self._flush()

    # The names by which structlog calls it.
    log = debug = info = warning = error = critical = exception = msg

    def _flush(self) -> None:
        held, self._held = self._held, []
        self._stream.write(b"".join(held))
        self._stream.flush()
