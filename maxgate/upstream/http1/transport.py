"""The httpx transport for engines: plain HTTP/1.1 on httptools, everything else on httpx's own.

httpx's default stack takes milliseconds per request; this takes tens of microseconds. It does what
the gateway needs of one: pooled keep-alive connections, exact timeouts and cancellation, bounded
buffers.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, cast

import httpx

from maxgate.net.write_buffer import WriteBuffer
from maxgate.upstream.http1.connection import Connection, LingeringConnection, ResponseHead
from maxgate.upstream.http1.messages import EngineRequest, EngineResponse, Origin, parse_origin
from maxgate.upstream.settings import UpstreamSettings

_ResponseOf = Callable[[ResponseHead, httpx.AsyncByteStream], httpx.Response]


class EngineTransport(httpx.AsyncBaseTransport):
    """A connection pool per origin.

    A connection that the engine closed while idle is replaced once, if no response byte had
    arrived. Closing a response early or cancelling a request closes its connection; a cancelled
    request's connection first lingers until MAX has read the request (see LingeringConnection).
    """

    def __init__(self, settings: UpstreamSettings) -> None:
        self._keepalive_expiry = settings.keepalive_expiry
        self._max_connections = settings.max_connections
        self._cancel_grace = settings.cancel_grace
        self._idle: dict[Origin, deque[Connection]] = {}
        self._open: dict[Origin, int] = {}
        self._abandoned: set[LingeringConnection] = set()
        self._writes = WriteBuffer()
        self._other: httpx.AsyncHTTPTransport | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See httpx."""
        ready = request if isinstance(request, EngineRequest) else None
        origin = parse_origin(request.url) if ready is None else ready.origin
        if origin is None:
            return await self._httpx().handle_async_request(request)
        limits = request.extensions.get("timeout", {})
        if ready is None:
            message, response = await _serialized(request), _any_response
        else:
            message, response = ready.message(), EngineResponse
        connection = self._idle_connection(origin)
        if connection is not None:
            try:
                return await self._exchange(origin, connection, message, limits, response)
            except (httpx.ReadError, httpx.RemoteProtocolError):
                if connection.answered:
                    raise
        connection = await self._connect(origin, limits.get("connect"))
        return await self._exchange(origin, connection, message, limits, response)

    def _httpx(self) -> httpx.AsyncHTTPTransport:
        if self._other is None:  # not at the start: reading the certificates takes 25 ms
            self._other = httpx.AsyncHTTPTransport(trust_env=False)
        return self._other

    async def _exchange(
        self,
        origin: Origin,
        connection: Connection,
        message: bytes,
        limits: dict[str, Any],
        response: _ResponseOf,
    ) -> httpx.Response:
        sent = asyncio.get_running_loop().time()
        try:
            connection.send(message)
            head = await connection.head(limits.get("read"))
        except asyncio.CancelledError:
            self._abandon(origin, connection, sent + self._cancel_grace)
            raise
        except BaseException:
            self._release(origin, connection)
            raise
        return response(head, _Body(self, origin, connection, limits))

    def _idle_connection(self, origin: Origin) -> Connection | None:
        idle = self._idle.get(origin)
        now = asyncio.get_running_loop().time()
        while idle:
            connection = idle.pop()
            if not connection.closed and now - connection.idle_since < self._keepalive_expiry:
                return connection
            self._drop(origin, connection)
        return None

    async def _connect(self, origin: Origin, seconds: float | None) -> Connection:
        if self._open.get(origin, 0) >= self._max_connections:
            raise httpx.PoolTimeout("all connections to the engine are in use")
        loop = asyncio.get_running_loop()
        self._open[origin] = self._open.get(origin, 0) + 1
        try:
            async with asyncio.timeout(seconds):
                _, connection = await loop.create_connection(
                    lambda: Connection(loop, self._writes), *origin
                )
        except TimeoutError as error:
            self._open[origin] -= 1
            raise httpx.ConnectTimeout("the engine did not accept in time") from error
        except OSError as error:
            self._open[origin] -= 1
            raise httpx.ConnectError(str(error)) from error
        except BaseException:
            self._open[origin] -= 1
            raise
        return connection

    def _release(self, origin: Origin, connection: Connection) -> None:
        if connection.reusable:
            connection.idle_since = asyncio.get_running_loop().time()
            self._idle.setdefault(origin, deque()).append(connection)
        else:
            self._drop(origin, connection)

    def _drop(self, origin: Origin, connection: Connection) -> None:
        self._open[origin] -= 1
        connection.abort()

    def _abandon(self, origin: Origin, connection: Connection, at: float) -> None:
        if connection.closed or connection.answered or at <= asyncio.get_running_loop().time():
            self._release(origin, connection)
            return

        self._abandoned.add(connection.abandon(at, partial(self._forget, origin)))

    def _forget(self, origin: Origin, abandoned: LingeringConnection) -> None:
        self._open[origin] -= 1
        self._abandoned.discard(abandoned)

    async def aclose(self) -> None:
        """Close what is idle or abandoned; what is in use is closed by whoever uses it."""
        for abandoned in self._abandoned:
            abandoned.close()
        for origin, idle in self._idle.items():
            while idle:
                self._drop(origin, idle.pop())
        if self._other is not None:
            await self._other.aclose()


class _Body(httpx.AsyncByteStream):
    def __init__(
        self,
        transport: EngineTransport,
        origin: Origin,
        connection: Connection,
        limits: dict[str, Any],
    ) -> None:
        self._transport = transport
        self._origin = origin
        self._connection: Connection | None = connection
        self._limits = limits

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    def __anext__(self) -> Awaitable[bytes]:
        if self._connection is None:
            raise StopAsyncIteration
        # The limit may differ from one read to the next; whoever sent the request owns it.
        return self._connection.body(self._limits.get("read"))

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._transport._release(self._origin, connection)  # noqa: SLF001  # its own body


def _any_response(head: ResponseHead, stream: httpx.AsyncByteStream) -> httpx.Response:
    return httpx.Response(head.status, headers=head.headers, stream=stream)


async def _serialized(request: httpx.Request) -> bytes:
    stream = cast("AsyncIterable[bytes]", request.stream)
    content = b"".join([piece async for piece in stream])
    lines = [b"%b %b HTTP/1.1" % (request.method.encode(), request.url.raw_path)]
    lines += [b"%b: %b" % header for header in request.headers.raw]
    if "content-length" not in request.headers:
        lines.append(b"content-length: %d" % len(content))
    return b"\r\n".join(lines) + b"\r\n\r\n" + content
