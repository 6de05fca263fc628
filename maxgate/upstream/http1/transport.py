"""The engine client for plain HTTP: connection pools over httptools and asyncio.

A request through httpx's default stack takes milliseconds of CPU time; this one takes tens of
microseconds. It has what the gateway needs: keep-alive, exact timeouts, cancellation and bounded
buffers.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import httpx
from typing_extensions import override

from maxgate.generation.context import RequestContext
from maxgate.net.shortage import find_shortage
from maxgate.net.write_buffer import WriteBuffer
from maxgate.upstream.client import HttpxEngineClient
from maxgate.upstream.connect_errors import describe_connect_error
from maxgate.upstream.errors import ConnectionsInUse, EngineUnreachable
from maxgate.upstream.http1.connection import Connection, EngineResponse
from maxgate.upstream.http1.messages import EngineRequest, Origin
from maxgate.upstream.settings import ReplicaSettings, UpstreamSettings


class LingeringConnection(asyncio.Protocol):
    """Closes the connection on the first response byte, or at loop time `at`, whichever is first.

    MAX reads new requests when a step of its batch begins and cancellations when it ends, and drops
    cancellations of requests that it has not read: those are computed to their last token
    (docs/decisions/0009-cancellations-wait-for-max.md). `on_close` is called with this object when
    the connection is closed.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        at: float,
        on_close: "Callable[[LingeringConnection], None]",
    ) -> None:
        self._transport = transport
        self._on_close = on_close
        self._timer = asyncio.get_running_loop().call_at(at, self.close)
        transport.set_protocol(self)

    @override
    def data_received(self, data: bytes) -> None:
        self.close()  # MAX works on the request, so it will notice the cancellation

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._on_close(self)

    def close(self) -> None:
        """Close immediately."""
        self._timer.cancel()
        self._transport.abort()


class EngineTransport:
    """An EngineClient with a connection pool per engine; HTTPS requests go through httpx.

    Closing a response early or cancelling a request closes its connection; the connection of a
    cancelled request first lingers until MAX has read the request (see LingeringConnection).
    """

    def __init__(self, settings: UpstreamSettings, engines: Sequence[ReplicaSettings] = ()) -> None:
        """`engines` names the CA files of engines behind TLS."""
        self._settings = settings
        self._ca_files: dict[tuple[str, str, int | None], Path | None] = {}
        self.trust(engines)
        self._idle: dict[Origin, deque[Connection]] = {}
        self._open: dict[Origin, int] = {}
        self._lingering: set[LingeringConnection] = set()
        self._writes = WriteBuffer()
        self._https: dict[Path | None, HttpxEngineClient] = {}
        self._on_cancelled: Callable[[float], None] | None = None

    def on_cancelled(self, callback: Callable[[float], None]) -> None:
        """Call this when the connection of a cancelled request is closed.

        It gets the seconds since the client disconnected or the request's deadline passed.
        """
        self._on_cancelled = callback

    def trust(self, engines: Sequence[ReplicaSettings]) -> None:
        """Use the CA files of these engines."""
        self._ca_files = {_get_host(httpx.URL(engine.url)): engine.ca_file for engine in engines}

    async def send(self, request: EngineRequest) -> EngineResponse:
        """Send the request and wait for the response head; see EngineClient."""
        route = request.route
        origin = route.origin
        if origin is None:
            return await self._get_https_client(route.url).send(request)
        connection = self._take_idle(origin)
        if connection is None:
            connection = await self._connect(origin, request.connect_timeout)
        connection.context = request.context
        headers = b"".join([b"%b: %b\r\n" % header for header in request.headers])
        sent_at = asyncio.get_running_loop().time()
        try:
            return await connection.send(
                b"%b%d\r\n%b\r\n%b" % (route.head, len(request.body), headers, request.body),
                head_timeout=request.head_timeout,
                read_timeout=request.read_timeout,
            )
        except asyncio.CancelledError:
            self._linger(origin, connection, until=sent_at + self._settings.cancel_grace)
            raise
        except EngineUnreachable as error:
            self._close(origin, connection)
            if error.failure == "stale":
                # The connection used last is taken first, so the engine closed the others, too.
                self._close_idle(origin)
            raise
        except BaseException:
            self._close(origin, connection)
            raise

    def _get_https_client(self, url: httpx.URL) -> HttpxEngineClient:
        ca_file = self._ca_files.get(_get_host(url))
        client = self._https.get(ca_file)
        if client is None:  # created when needed: loading the CA certificates takes 25 ms
            client = HttpxEngineClient(
                settings=self._settings, ca_file=ca_file, on_closed_early=self._report_cancelled
            )
            self._https[ca_file] = client
        return client

    def _take_idle(self, origin: Origin) -> Connection | None:
        idle = self._idle.get(origin)
        now = asyncio.get_running_loop().time()
        while idle:
            connection = idle.pop()
            expires_at = connection.idle_since + self._settings.keepalive_expiry
            if not connection.closed and now < expires_at:
                return connection
            self._close(origin, connection)
        return None

    async def _connect(self, origin: Origin, connect_timeout: float) -> Connection:
        if self._open.get(origin, 0) >= self._settings.max_connections:
            raise ConnectionsInUse
        loop = asyncio.get_running_loop()
        on_release = partial(self._release, origin)
        self._open[origin] = self._open.get(origin, 0) + 1
        try:
            async with asyncio.timeout(connect_timeout):
                _, connection = await loop.create_connection(
                    lambda: Connection(loop, self._writes, on_release), *origin
                )
        except TimeoutError as error:
            self._open[origin] -= 1
            raise EngineUnreachable("connect_timeout") from error
        except OSError as error:
            self._open[origin] -= 1
            cause = describe_connect_error(error)
            raise find_shortage(error) or EngineUnreachable("refused", cause) from error
        except BaseException:
            self._open[origin] -= 1
            raise
        return connection

    def _release(self, origin: Origin, connection: Connection) -> None:
        context, connection.context = connection.context, None
        if connection.closed:
            self._open[origin] -= 1
            self._report_cancelled(context)
        else:
            connection.idle_since = asyncio.get_running_loop().time()
            self._idle.setdefault(origin, deque()).append(connection)

    def _close(self, origin: Origin, connection: Connection) -> None:
        self._open[origin] -= 1
        connection.abort()

    def _close_idle(self, origin: Origin) -> None:
        idle = self._idle.get(origin)
        while idle:
            self._close(origin, idle.pop())

    def _linger(self, origin: Origin, connection: Connection, *, until: float) -> None:
        now, context = asyncio.get_running_loop().time(), connection.context
        if connection.closed or connection.has_received or until <= now:
            self._close(origin, connection)
            self._report_cancelled(context)
        elif transport := connection.detach():
            on_close = partial(self._forget, origin, context)
            self._lingering.add(LingeringConnection(transport, until, on_close))

    def _forget(
        self, origin: Origin, context: RequestContext | None, lingering: LingeringConnection
    ) -> None:
        self._open[origin] -= 1
        self._lingering.discard(lingering)
        self._report_cancelled(context)

    def _report_cancelled(self, context: RequestContext | None) -> None:
        if context is None or context.cancelled_at is None or self._on_cancelled is None:
            return
        self._on_cancelled(asyncio.get_running_loop().time() - context.cancelled_at)

    async def aclose(self) -> None:
        """Close idle and lingering connections; requests in progress close their own."""
        for lingering in self._lingering:
            lingering.close()
        for origin in self._idle:
            self._close_idle(origin)
        for client in self._https.values():
            await client.aclose()


def _get_host(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
