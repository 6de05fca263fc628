"""A client's connection, to which a turn's writes go together."""

import asyncio
from typing import Any

from maxgate.writes import TurnWrites


class JoinedWrites(asyncio.Transport):
    """A transport whose writes wait for the end of the event loop's turn.

    uvicorn writes the head of an answer, its body and the end of its body apart; together they are
    one system call and one packet.
    """

    def __init__(self, transport: asyncio.Transport, writes: TurnWrites) -> None:
        super().__init__()
        self._transport = transport
        self._writes = writes

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See asyncio."""
        if data:
            self._writes.write(self._transport, bytes(data))

    def close(self) -> None:
        """See asyncio; what was written is sent first."""
        self._writes.flush()
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
