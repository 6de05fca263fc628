"""One HTTP/1.1 connection to an engine, parsed by httptools.

A connection carries one request at a time. Bytes are handed on as they were read; when nobody takes
them, reading pauses, so that a slow client never makes the gateway hold more than a few of them.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import httptools
import httpx

from maxgate.net.idle_timer import IdleTimer
from maxgate.net.write_buffer import WriteBuffer


class LingeringConnection(asyncio.Protocol):
    """Closes the connection with the first byte of an answer, and at the loop's time `at` at last.

    MAX reads new requests when a step of its batch begins, cancellations when it ends, and forgets
    those of requests that it has not read: these are then computed to their last token, for nobody
    (docs/decisions/0009-cancellations-wait-for-max.md). `on_close` is called with it when
    it is closed.
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

    def data_received(self, data: bytes) -> None:  # noqa: ARG002
        """See asyncio; MAX is at work on it, and will hear of its end."""
        self.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """See asyncio."""
        self._timer.cancel()
        self._on_close(self)

    def close(self) -> None:
        """Close now."""
        self._timer.cancel()
        self._transport.abort()


_HOLD_AT_MOST: Final = 256 * 1024


class ResponseHead:
    """Status line and headers of one answer."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []


class Connection(asyncio.Protocol):
    """Speaks to one socket.

    Errors are httpx's: ReadTimeout for silence, ReadError and RemoteProtocolError for a connection
    that breaks. `answered` says whether anything came back for the present request; `reusable`
    says whether another one may be sent.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, writes: WriteBuffer) -> None:
        self._loop = loop
        self._writes = writes
        self._transport: asyncio.Transport | None = None
        self._head_waiter: asyncio.Future[ResponseHead] | None = None
        self._body_waiter: asyncio.Future[bytes] | None = None
        self._deadline = IdleTimer(loop, self._was_silent)
        self._error: Exception | None = None
        self._paused = False
        self.idle_since = 0.0
        self.closed = False
        self._body: list[bytes] = []
        self.on_body = self._body.append  # httptools calls it with every piece
        self._parser: Any = httptools.HttpResponseParser(self)
        self._start_request()

    def _start_request(self) -> None:
        self._head = ResponseHead()
        self._head_complete = False
        self._body.clear()
        self._held = 0
        self._complete = False
        self._keeps_alive = False
        self.answered = False

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """See asyncio."""
        self.closed = True
        if not self._complete:
            self._error = self._error or httpx.ReadError("the connection was lost")
        self._tell()
        self._let_go()

    def eof_received(self) -> None:
        """See asyncio; the transport closes itself then."""
        if not self._complete:
            # MAX says how long its answers are; one that just ends was cut.
            self._error = httpx.RemoteProtocolError("the engine hung up")
            self._tell()

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self.answered = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._error = httpx.RemoteProtocolError(str(error))
            self.abort()
        self._tell()
        if self._body:
            self._held += len(data)
            if self._held > _HOLD_AT_MOST and not self._paused and self._transport is not None:
                self._paused = True
                self._transport.pause_reading()

    # httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools."""
        self._head.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """See httptools."""
        self._head.status = self._parser.get_status_code()
        self._head_complete = self._head.status >= 200  # 100 Continue is no answer

    def on_message_complete(self) -> None:
        """See httptools."""
        self._complete = self._head_complete
        self._keeps_alive = bool(self._parser.should_keep_alive())

    # The transport's side

    @property
    def reusable(self) -> bool:
        """Whether the answer was read to its end and the engine keeps the connection open."""
        return (
            not self.closed
            and self._error is None
            and self._complete
            and not self._body
            and self._keeps_alive
        )

    def send(self, request: bytes) -> None:
        """Send a whole request when the loop's turn ends; the answer to it comes next."""
        self._start_request()
        assert self._transport is not None  # noqa: S101  # it is connected
        self._writes.write(self._transport, request)

    def head(self, silence: float | None) -> asyncio.Future[ResponseHead]:
        """Status and headers, once they are complete."""
        waiter = self._head_waiter = self._loop.create_future()
        self._tell_of_head()
        if silence is not None and self._head_waiter is not None:
            self._deadline.reset(silence)
        return waiter

    def body(self, silence: float | None) -> asyncio.Future[bytes]:
        """What has come of the body since the last call, or else what comes next.

        At its end StopAsyncIteration is raised, as `__anext__` does.
        """
        waiter = self._body_waiter = self._loop.create_future()
        if self._body or self._complete or self._error is not None:
            self._tell()
        elif silence is not None:
            self._deadline.reset(silence)
        return waiter

    def abort(self) -> None:
        """Close at once."""
        self.closed = True
        self._deadline.close()
        if self._transport is not None:
            self._transport.abort()

    def abandon(
        self, at: float, on_close: Callable[[LingeringConnection], None]
    ) -> LingeringConnection:
        """Leave it alone; it closes itself (see LingeringConnection) and can't be used any more."""
        self.closed = True
        transport = self._transport
        assert transport is not None  # noqa: S101  # it is connected
        self._let_go()
        return LingeringConnection(transport, at, on_close)

    def _let_go(self) -> None:
        # They know this object, too: only garbage collection would find such a circle.
        self._deadline.close()
        self._transport = self._parser = None

    def _tell(self) -> None:
        """Give whoever waits what has come, if it is what they wait for."""
        waiter = self._body_waiter
        if waiter is None:
            self._tell_of_head()
            return
        if waiter.done():
            pass  # whoever waited was cancelled
        elif body := self._body:
            waiter.set_result(body[0] if len(body) == 1 else b"".join(body))
            body.clear()
            if self._held:
                self._resume()
        elif self._complete:
            _fail(waiter, StopAsyncIteration())
        elif self._error is not None:
            _fail(waiter, self._error)
        else:
            return
        self._body_waiter = None

    def _tell_of_head(self) -> None:
        waiter = self._head_waiter
        if waiter is None:
            return
        if waiter.done():
            pass  # whoever waited was cancelled
        elif self._error is not None and not self._body:
            _fail(waiter, self._error)
        elif self._head_complete:
            waiter.set_result(self._head)
        else:
            return
        self._head_waiter = None

    def _resume(self) -> None:
        self._held = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def _was_silent(self) -> None:
        if self._head_waiter is not None or self._body_waiter is not None:
            self._error = httpx.ReadTimeout("the engine was silent")
            self._tell()


def _fail(waiter: asyncio.Future[Any], error: Exception) -> None:
    waiter.set_exception(error)
    # Whoever waits may be cancelled before they see it; asyncio would log an error that was lost.
    waiter.exception()
