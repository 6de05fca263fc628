"""Socket writes, batched per iteration of the event loop."""

import asyncio
from collections.abc import Callable
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
    within `close_timeout` seconds. While writes are held, closing waits for their release:
    `closes_on_release` is set.
    """

    def __init__(
        self, transport: asyncio.Transport, writes: WriteBuffer, close_timeout: float = 60
    ) -> None:
        super().__init__()
        self._close_timeout = close_timeout
        self._transport = transport
        self._writes = writes
        self._held: bytes | None = None
        self.closes_on_release = False

    @property
    def is_holding(self) -> bool:
        """Whether writes are held."""
        return self._held is not None

    def hold(self) -> Callable[[], None] | None:
        """Hold all further writes; return the function that releases them.

        Returns None if writes are held already. If the transport has been lost, releasing does
        nothing.
        """
        if self._held is not None:
            return None
        self._held = b""
        return self._release

    def _release(self) -> None:
        held, self._held = self._held, None
        if held:
            self._writes.write(self._transport, held)
        if self.closes_on_release:
            self.close()

    @override
    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not data:
            return
        if self._held is None:
            self._writes.write(self._transport, bytes(data))
        elif not self.closes_on_release:
            self._held += data

    @override
    def close(self) -> None:
        if self._held is not None and not self._transport.is_closing():
            self.closes_on_release = True
            return
        self._writes.flush()  # pending data must leave before the socket closes
        if not self._transport.is_closing() and self._transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(self._close_timeout, self._transport.abort)
        self._transport.close()

    @override
    def is_closing(self) -> bool:
        return self.closes_on_release or self._transport.is_closing()

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
