"""Socket writes, batched per iteration of the event loop."""

import asyncio
from typing import Any

from typing_extensions import override


class WriteBuffer:
    """Holds writes until the current iteration of the event loop ends.

    Writes to one socket are joined into a single system call. A write also wakes the peer, which
    costs more than the write; batching writes means most of them find it already awake.
    """

    def __init__(self) -> None:
        self._pending: dict[asyncio.WriteTransport, bytes] = {}

    def write(self, transport: asyncio.WriteTransport, data: bytes) -> None:
        """Queue `data` in order; it is dropped if the transport closes before the flush."""
        pending = self._pending
        if not pending:
            asyncio.get_running_loop().call_soon(self.flush)
        before = pending.get(transport)
        pending[transport] = data if before is None else before + data

    def flush(self) -> None:
        """Write everything that is pending now."""
        pending, self._pending = self._pending, {}
        for transport, data in pending.items():
            if not transport.is_closing():
                transport.write(data)


class BufferedTransport(asyncio.Transport):
    """A transport whose writes go through a WriteBuffer.

    uvicorn writes the head of a response, its body and the end of its body separately; buffered,
    they are one system call and one packet. A closed transport drops what the peer has not taken
    within `close_timeout` seconds.
    """

    def __init__(
        self, transport: asyncio.Transport, writes: WriteBuffer, close_timeout: float = 60
    ) -> None:
        super().__init__()
        self._close_timeout = close_timeout
        self._transport = transport
        self._writes = writes

    @override
    def write(self, data: bytes | bytearray | memoryview) -> None:
        if data:
            self._writes.write(self._transport, bytes(data))

    @override
    def close(self) -> None:
        self._writes.flush()  # pending data must leave before the socket closes
        if not self._transport.is_closing() and self._transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(self._close_timeout, self._transport.abort)
        self._transport.close()

    @override
    def is_closing(self) -> bool:
        return self._transport.is_closing()

    @override
    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    @override
    def pause_reading(self) -> None:
        self._transport.pause_reading()

    @override
    def resume_reading(self) -> None:
        self._transport.resume_reading()

    @override
    def abort(self) -> None:
        self._transport.abort()
