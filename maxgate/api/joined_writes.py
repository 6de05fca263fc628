"""An answer's head and the beginning of its body, written at once."""

import asyncio
from typing import Any, Final

_HEAD_BEGINS: Final = b"HTTP/1."
_HEAD_ENDS: Final = b"\r\n\r\n"


class JoinedWrites(asyncio.Transport):
    """A transport that holds the head of an answer until what comes after it is written.

    uvicorn writes them apart; together they are one system call and one packet less. A head is
    held to the end of the event loop's turn at the longest.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._head = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See asyncio."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data[:7] == _HEAD_BEGINS and data[-4:] == _HEAD_ENDS:
            self._head = bytes(data)
            self._loop.call_soon(self._flush)
            return
        self._transport.write(data)

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def close(self) -> None:
        """See asyncio."""
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """See asyncio."""
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """See asyncio."""
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """See asyncio."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """See asyncio."""
        self._transport.resume_reading()

    def abort(self) -> None:
        """See asyncio."""
        self._transport.abort()
