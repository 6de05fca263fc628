"""A TCP relay to a scratch Redis or PostgreSQL, which can be cut to play an outage."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final
from urllib.parse import urlsplit

_DEFAULT_PORTS: Final = {"redis": 6379, "rediss": 6379}
_POSTGRES_PORT: Final = 5432
_CHUNK: Final = 64 * 1024
_CLOSE_TIMEOUT: Final = 2.0


class Relay:
    """Passes connections on to the server of a URL; `url` is that of the relay."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._handlers: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The URL with the address of the relay, and the same credentials."""
        if self._target.scheme == "unix":
            return f"redis://127.0.0.1:{self._port}"
        credentials, at, _ = self._target.netloc.rpartition("@")
        return self._target._replace(netloc=f"{credentials}{at}127.0.0.1:{self._port}").geturl()

    async def start(self) -> None:
        """Listen, at the port of the time before."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Reset all connections, and refuse new ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            writer.transport.abort()
        if self._handlers:
            await asyncio.wait(self._handlers, timeout=_CLOSE_TIMEOUT)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handler = asyncio.create_task(self._pass_on(reader, writer))
        self._handlers.add(handler)
        handler.add_done_callback(self._handlers.discard)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = self._target.port or _DEFAULT_PORTS.get(self._target.scheme, _POSTGRES_PORT)
        with suppress(OSError):
            target_reader, target_writer = await self._connect(port)
            self._writers |= {writer, target_writer}
            try:
                await asyncio.gather(_copy(reader, target_writer), _copy(target_reader, writer))
            finally:
                self._writers -= {writer, target_writer}
                target_writer.close()
        writer.close()

    async def _connect(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._target.scheme == "unix":
            return await asyncio.open_unix_connection(self._target.path)
        return await asyncio.open_connection(self._target.hostname, port)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def relaying(url: str) -> AsyncIterator[Relay]:
    """Run a relay to this URL."""
    relay = Relay(url)
    await relay.start()
    try:
        yield relay
    finally:
        await relay.cut()
