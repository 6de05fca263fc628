"""One HTTP/1.1 connection to the server under test, parsed by httptools."""

import asyncio
import os
from collections.abc import Callable

import httptools

from maxgate.loadtest.client.request_record import Exchange
from maxgate.loadtest.client.response_reader import AnswerReader
from maxgate.loadtest.client.timing import Inbox


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


Done = Callable[["Connection", Exchange], None]


class Connection(asyncio.Protocol):
    """Carries one request at a time; `done` is called when its answer is complete or has failed.

    `usable` says whether another request can be sent. `answered` counts its complete answers.
    """

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._done: Done | None = None
        self._reader: AnswerReader | None = None
        self._at = self._held = 0.0
        self.usable = False
        self.answered = 0
        self.server: bytes | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = transport  # type: ignore[assignment]
        self._writer = ImmediateWriter(transport)  # type: ignore[arg-type]
        self.usable = True

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._inbox.put(self, data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """See asyncio."""
        self.usable = False
        self._inbox.put(self, None)

    # The inbox's side

    def take(self, data: bytes | None, at: float, held: float) -> None:
        """See Receiver."""
        exchange = self._exchange
        if exchange is None:
            self._close()  # the server hung up between two requests, or says what nobody asked
            return
        self._at, self._held = at, held
        if data is None:
            self._lost(exchange, at)
            return
        if not exchange.first_byte:
            exchange.first_byte = at
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.fail("protocol", at)

    # httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools."""
        if self.server is None and name.lower() == b"server":
            self.server = value

    def on_headers_complete(self) -> None:
        """See httptools."""
        if self._exchange is not None:
            self._exchange.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        if self._reader is not None:
            self._reader.feed(body, self._at, self._held)

    def on_message_complete(self) -> None:
        """See httptools."""
        exchange, reader = self._exchange, self._reader
        if exchange is None or reader is None or exchange.status < 200:
            return
        reader.end(self._at)
        if not self._parser.should_keep_alive():
            self._close()
        self._finish(exchange, self._at)

    # The runner's side

    def send(self, request: bytes, exchange: Exchange, done: Done) -> None:
        """Send a whole request; `done` is called once, later."""
        self._exchange, self._done = exchange, done
        self._reader = AnswerReader(exchange)
        self._parser = httptools.HttpResponseParser(self)
        if self._transport is None or not self.usable:
            self._inbox.put(self, None)
            return
        self._writer.write(request)

    def fail(self, kind: str, at: float) -> None:
        """Give the present request up for this reason, and the connection with it."""
        self._close()
        if self._exchange is not None:
            self._exchange.error = kind
            self._finish(self._exchange, at)

    def close(self) -> None:
        """Close without a word."""
        self._exchange = None
        self._close()

    def _lost(self, exchange: Exchange, at: float) -> None:
        # A body without a length ends with the connection; httptools is told by an empty read.
        if exchange.status == 200 and exchange.stream and exchange.finished:
            self._finish(exchange, at)
        else:
            self.fail("disconnected", at)

    def _finish(self, exchange: Exchange, at: float) -> None:
        exchange.ended = at
        self.answered += exchange.error is None
        done, self._exchange, self._reader = self._done, None, None
        if done is not None:
            done(self, exchange)

    def _close(self) -> None:
        self.usable = False
        if self._transport is not None:
            self._transport.abort()
