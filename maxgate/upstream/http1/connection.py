"""One HTTP/1.1 connection to an engine, parsed by httptools, and the responses read from it.

A connection carries one request at a time. Received bytes are passed on as they were read. If the
consumer falls behind, reading pauses, so a slow client bounds the memory of its response.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final, Literal, Protocol, Self

import httptools
from typing_extensions import override

from maxgate.errors import GatewayError
from maxgate.generation.context import RequestContext
from maxgate.net.idle_timer import IdleTimer
from maxgate.net.write_buffer import WriteBuffer
from maxgate.upstream.errors import (
    ADMITTED_SECONDS,
    EngineDisconnected,
    EngineUnreachable,
    engine_timeout,
    response_too_large,
)

MAX_BUFFERED_BYTES: Final = 256 * 1024
MAX_HEADER_BYTES: Final = 64 * 1024
"""Status lines, headers, trailers and chunk extensions of a response."""
MAX_BODY_BYTES: Final = 4 * 1024 * 1024
"""Largest body that is read unless the caller names another limit."""
_MIN_READ_TIMEOUT: Final = 0.001


class ResponseBody(Protocol):
    """Where an EngineResponse reads from."""

    read_timeout: float
    """Seconds that the engine may be silent."""

    @property
    def is_waiting(self) -> bool:
        """Whether a call of `__anext__` waits for the engine."""
        ...

    def __anext__(self) -> Awaitable[bytes]:
        """Return the next piece; raises StopAsyncIteration at the end."""
        ...

    def interrupt(self) -> None:
        """End the current wait for a piece, or the next one, with UpstreamTimeout."""
        ...

    async def aclose(self) -> object:
        """Release the connection, or close it if the body was not read to its end."""
        ...


class Activity:
    """The event loop's time of an engine's last response or token."""

    __slots__ = ("at",)

    def __init__(self) -> None:
        self.at = -math.inf


class EngineResponse:
    """Status, headers and a body that is read by iterating; close it, best with `async with`.

    Pieces of the body are yielded as they arrive. Raises UpstreamTimeout if the engine is silent
    for too long and UpstreamError if it closes the connection early. `on_close` is called once.
    Readers of a stream keep `activity` up to date, if it is set.
    """

    __slots__ = ("_body", "activity", "headers", "on_close", "status")

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], body: ResponseBody) -> None:
        self.status = status
        self.headers = headers
        self.activity: Activity | None = None
        self.on_close: Callable[[], None] | None = None
        self._body: ResponseBody | None = body

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[bytes]:
        if self._body is None:
            raise StopAsyncIteration
        return self._body.__anext__()

    @property
    def is_waiting(self) -> bool:
        """Whether the reader of the body waits for the engine."""
        return self._body is not None and self._body.is_waiting

    def set_read_timeout(self, seconds: float) -> None:
        """Set how long the engine may be silent from the next piece on."""
        if self._body is not None:
            self._body.read_timeout = seconds

    def interrupt(self) -> None:
        """End the wait for the next piece with UpstreamTimeout."""
        if self._body is not None:
            self._body.interrupt()

    async def read(self, max_bytes: int = MAX_BODY_BYTES, deadline: float | None = None) -> bytes:
        """Read the whole body.

        Raises UpstreamError above `max_bytes`, and UpstreamTimeout at the loop's time `deadline`.
        """
        pieces, size = [], 0
        async for data in self:
            size += len(data)
            if size > max_bytes:
                raise response_too_large(max_bytes)
            pieces.append(data)
            if deadline is not None:
                remaining = deadline - asyncio.get_running_loop().time()
                self.set_read_timeout(max(remaining, _MIN_READ_TIMEOUT))
        return b"".join(pieces)

    async def aclose(self) -> None:
        """Release the connection; nothing is read after that."""
        body, self._body = self._body, None
        if body is None:
            return
        try:
            await body.aclose()
        finally:
            if self.on_close is not None:
                self.on_close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


class Connection(asyncio.Protocol):
    """A socket to an engine.

    The response returned by `send` reads its body from the connection. Closing the response calls
    `on_release`; the next request may be sent then, unless the connection is `closed`.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        writes: WriteBuffer,
        on_release: "Callable[[Connection], None]",
    ) -> None:
        self._loop = loop
        self._writes = writes
        self._on_release = on_release
        self._transport: asyncio.Transport | None = None
        self._head_waiter: asyncio.Future[EngineResponse] | None = None
        self._body_waiter: asyncio.Future[bytes] | None = None
        self._read_timer = IdleTimer(loop, self._time_out)
        self.read_timeout = 0.0
        self._failure: Literal["disconnect", "timeout", "headers"] | None = None
        self._cause: str | None = None
        self._header_bytes = 0
        self._paused = False
        self._requests_sent = 0
        self._sent_at = 0.0
        self.idle_since = 0.0
        self.context: RequestContext | None = None
        self.closed = False
        self._body: list[bytes] = []
        self.on_body = self._body.append  # called by httptools with each piece
        self._parser: Any = httptools.HttpResponseParser(self)
        self._reset()

    def _reset(self) -> None:
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_complete = False
        self._body.clear()
        self._buffered = 0
        self._header_bytes = 0
        self._complete = False
        self._keep_alive = False
        self.has_received = False

    # asyncio.Protocol

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if not self._complete and self._failure is None:
            self._failure = "disconnect"
        self._deliver()
        self.detach()

    @override
    def eof_received(self) -> None:  # the transport closes itself afterwards
        if not self._complete:
            # MAX always sends a length or chunks, so a response that just ends is incomplete.
            self._failure = "disconnect"
            self._deliver()

    @override
    def data_received(self, data: bytes) -> None:
        self.has_received = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._failure, self._cause = "disconnect", "response is not HTTP"
            self.abort()
        self._check_header_size(len(data))
        self._deliver()
        if self._body:
            self._buffered += len(data)
            if (
                self._buffered > MAX_BUFFERED_BYTES
                and not self._paused
                and self._transport is not None
            ):
                self._paused = True
                self._transport.pause_reading()

    def _check_header_size(self, received: int) -> None:
        if self._body or self._complete:
            self._header_bytes = 0
            return
        self._header_bytes += received
        if self._header_bytes > MAX_HEADER_BYTES and self._failure is None:
            self._failure = "headers"
            self.abort()

    # httptools callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect one header."""
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Note the status; informational responses such as 100 Continue are skipped."""
        self._status = self._parser.get_status_code()
        self._head_complete = self._status >= 200

    def on_message_complete(self) -> None:
        """Note the end of the body."""
        self._complete = self._head_complete
        self._keep_alive = bool(self._parser.should_keep_alive())

    # Used by the transport and by EngineResponse

    @property
    def reusable(self) -> bool:
        """Whether the response was read to its end and the engine keeps the connection open."""
        return (
            not self.closed
            and self._failure is None
            and self._complete
            and not self._body
            and self._keep_alive
        )

    @property
    def is_waiting(self) -> bool:
        """Whether a reader waits for the next piece of the body."""
        return self._body_waiter is not None

    def send(
        self, request: bytes, *, head_timeout: float, read_timeout: float
    ) -> asyncio.Future[EngineResponse]:
        """Send a request at the end of this event loop iteration; wait for the response head.

        Raises EngineUnreachable if the connection ends first, and UpstreamTimeout.
        """
        self._reset()
        self.read_timeout = read_timeout
        self._requests_sent += 1
        self._sent_at = self._loop.time()
        assert self._transport is not None  # noqa: S101  # connected
        waiter = self._head_waiter = self._loop.create_future()
        self._read_timer.reset(head_timeout)
        self._writes.write(self._transport, request)
        return waiter

    def __anext__(self) -> asyncio.Future[bytes]:
        """Return what arrived of the body since the last call, or else what arrives next."""
        waiter = self._body_waiter = self._loop.create_future()
        if self._body or self._complete or self._failure is not None:
            self._deliver()
        else:
            self._read_timer.reset(self.read_timeout)
        return waiter

    async def aclose(self) -> None:
        """Return the connection to the transport; close it first if it cannot be reused."""
        if not self.reusable:
            self.abort()
        self._on_release(self)

    def abort(self) -> None:
        """Close immediately, dropping unsent data."""
        self.closed = True
        self._read_timer.close()
        if self._transport is not None:
            self._transport.abort()

    def detach(self) -> asyncio.Transport | None:
        """Hand over the socket; the connection is unusable afterwards."""
        self.closed = True
        # Both refer back to this object; only the garbage collector would find such a cycle.
        self._read_timer.close()
        transport, self._transport, self._parser = self._transport, None, None
        return transport

    # Delivery to the two waiters

    def _deliver(self) -> None:
        """Resolve the pending waiter if there is something for it."""
        waiter = self._body_waiter
        if waiter is None:
            self._deliver_head()
            return
        if waiter.done():
            pass  # the consumer was cancelled
        elif body := self._body:
            waiter.set_result(body[0] if len(body) == 1 else b"".join(body))
            body.clear()
            if self._buffered:
                self._resume_reading()
        elif self._complete:
            _fail(waiter, StopAsyncIteration())
        elif self._failure == "timeout":
            _fail(waiter, engine_timeout())
        elif self._failure is not None:
            _fail(waiter, EngineDisconnected())
        else:
            return
        self._body_waiter = None

    def _deliver_head(self) -> None:
        waiter = self._head_waiter
        if waiter is None:
            return
        if waiter.done():
            pass  # the consumer was cancelled
        elif self._failure is not None and not self._body:
            _fail(waiter, self._head_error())
        elif self._head_complete:
            waiter.set_result(EngineResponse(self._status, self._headers, self))
        else:
            return
        self._head_waiter = None

    def _head_error(self) -> GatewayError:
        if self._failure == "timeout":
            return engine_timeout()
        if self._failure == "headers":
            return response_too_large(MAX_HEADER_BYTES)
        is_reused = self._requests_sent > 1 and not self.has_received
        stale = is_reused and self._loop.time() - self._sent_at < ADMITTED_SECONDS
        return EngineUnreachable("stale" if stale else "disconnect", self._cause)

    def _resume_reading(self) -> None:
        self._buffered = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def _time_out(self) -> None:
        if self._head_waiter is not None or self._body_waiter is not None:
            self.interrupt()

    def interrupt(self) -> None:
        """End the wait with UpstreamTimeout."""
        self._failure = "timeout"
        self._deliver()


def _fail(waiter: asyncio.Future[Any], error: Exception) -> None:
    waiter.set_exception(error)
    # asyncio logs exceptions that nobody retrieves, and a cancelled consumer never does.
    waiter.exception()
