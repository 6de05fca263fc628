"""A server below HTTP: it sends prepared bytes and closes the connection, or keeps it open."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager


class RawServer:
    """Sends one entry of `responses` per request, then closes the connection.

    With `keep_alive`, only an empty response closes it. `connections` and `requests` are counted.
    """

    def __init__(self, responses: Sequence[bytes], *, keep_alive: bool = False) -> None:
        self._responses = list(responses)
        self._keep_alive = keep_alive
        self.connections = self.requests = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        try:
            while True:
                await _read_request(reader)
                self.requests += 1
                response = self._responses.pop(0)
                writer.write(response)
                if not (self._keep_alive and response):
                    return
        except asyncio.IncompleteReadError:
            return  # the client closed the connection
        finally:
            writer.close()


async def _read_request(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1])
        for line in head.lower().split(b"\r\n")
        if line.startswith(b"content-length:")
    )
    await reader.readexactly(length)


@asynccontextmanager
async def serving_bytes(server: RawServer) -> AsyncIterator[str]:
    """Run the server on a free port and yield its URL."""
    listener = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    async with listener:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
