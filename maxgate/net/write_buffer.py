"""Writes to sockets, those of one turn of the event loop together."""

import asyncio
from typing import Any


class WriteBuffer:
    """Holds what is written until the event loop's turn ends.

    What goes to one socket is joined to a single write. And writing wakes up whoever waits at the
    other end, which takes longer than the write itself: where many writes follow each other
    closely, most find it awake.
    """

    def __init__(self) -> None:
        self._held: dict[asyncio.WriteTransport, bytes] = {}

    def write(self, transport: asyncio.WriteTransport, data: bytes) -> None:
        """Write this at the end of the turn, in order; never if the transport is closed by then."""
        held = self._held
        if not held:
            asyncio.get_running_loop().call_soon(self.flush)
        before = held.get(transport)
        held[transport] = data if before is None else before + data

    def flush(self) -> None:
        """Write all that is held, now."""
        held, self._held = self._held, {}
        for transport, data in held.items():
            if not transport.is_closing():
                transport.write(data)


class BufferedTransport(asyncio.Transport):
    """A transport whose writes wait for the end of the event loop's turn.

    uvicorn writes the head of an answer, its body and the end of its body apart; together they are
    one system call and one packet.
    """

    def __init__(self, transport: asyncio.Transport, writes: WriteBuffer) -> None:
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
