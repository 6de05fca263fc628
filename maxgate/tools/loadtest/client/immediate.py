"""Writing to a socket now, and not when the event loop has had its turn.

uvloop gathers what is written and sends it when all callbacks have run. A stamp that is taken when
a request is handed over would then be early by whatever the other connections do in between.
"""

import asyncio
import os


class ImmediateWriter:
    """Writes to one connection; nothing else may write to it."""

    __slots__ = ("_fd", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        plain = transport.get_extra_info("sslcontext") is None
        self._fd: int = transport.get_extra_info("socket").fileno() if plain else -1

    def write(self, data: bytes) -> None:
        """Send it; what the socket has no room for follows later, in order."""
        if self._fd < 0 or self._transport.get_write_buffer_size() or self._transport.is_closing():
            self._transport.write(data)
            return
        try:
            written = os.write(self._fd, data)
        except OSError:  # full, or broken, which the transport will notice
            written = 0
        if written < len(data):
            self._transport.write(data[written:])
