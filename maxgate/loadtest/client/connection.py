"""One HTTP/1.1 connection to the server under test, parsed by httptools."""

import asyncio
import os
from collections.abc import Callable

import httptools
from typing_extensions import override

from maxgate.loadtest.client.request_record import RequestRecord
from maxgate.loadtest.client.response_reader import ResponseReader
from maxgate.loadtest.client.timing import Inbox, Receiver


class ImmediateWriter:
    """Writes to the socket without a turn of the event loop; must be its only writer."""

    __slots__ = ("_fd", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        plain = transport.get_extra_info("sslcontext") is None
        self._fd: int = transport.get_extra_info("socket").fileno() if plain else -1

    def write(self, data: bytes) -> None:
        """Write as much as the socket takes; the transport sends the rest in order."""
        if self._fd < 0 or self._transport.get_write_buffer_size() or self._transport.is_closing():
            self._transport.write(data)
            return
        try:
            written = os.write(self._fd, data)
        except OSError:  # full, or broken: the transport handles both
            written = 0
        if written < len(data):
            self._transport.write(data[written:])


OnDone = Callable[["Connection", RequestRecord], None]


class Connection(asyncio.Protocol, Receiver):
    """Carries one request at a time.

    `usable` is True while another request can be sent. `completed` counts complete responses.
    """

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._transport: asyncio.Transport | None = None
        self._record: RequestRecord | None = None
        self._on_done: OnDone | None = None
        self._reader: ResponseReader | None = None
        self._at = self._uncertainty = 0.0
        self.usable = False
        self.completed = 0
        self.server: bytes | None = None

    # asyncio.Protocol

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._writer = ImmediateWriter(transport)  # type: ignore[arg-type]
        self.usable = True

    @override
    def data_received(self, data: bytes) -> None:
        self._inbox.put(self, data)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        self._inbox.put(self, None)

    # Receiver

    @override
    def take(self, data: bytes | None, at: float, uncertainty: float) -> None:
        record = self._record
        if record is None:
            self._close()  # the server closed an idle connection, or sent unsolicited data
            return
        self._at, self._uncertainty = at, uncertainty
        if data is None:
            self._on_disconnect(record, at)
            return
        if not record.first_byte:
            record.first_byte = at
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.fail("protocol", at)

    # httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep the `Server` header."""
        if self.server is None and name.lower() == b"server":
            self.server = value

    def on_headers_complete(self) -> None:
        """Keep the status."""
        if self._record is not None:
            self._record.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        """Parse a piece of the body."""
        if self._reader is not None:
            self._reader.feed(body, self._at, self._uncertainty)

    def on_message_complete(self) -> None:
        """Finish the request, unless the response was informational (1xx)."""
        record, reader = self._record, self._reader
        if record is None or reader is None or record.status < 200:
            return
        reader.end(self._at)
        if not self._parser.should_keep_alive():
            self._close()
        self._finish(record, self._at)

    # Client

    def send(self, request: bytes, record: RequestRecord, on_done: OnDone) -> None:
        """Send a whole request; `on_done` is called once, when it has ended or failed."""
        self._record, self._on_done = record, on_done
        self._reader = ResponseReader(record)
        self._parser = httptools.HttpResponseParser(self)
        if self._transport is None or not self.usable:
            self._inbox.put(self, None)
            return
        self._writer.write(request)

    def fail(self, kind: str, at: float) -> None:
        """Fail the current request with this kind of error and close the connection."""
        self._close()
        if self._record is not None:
            self._record.error = kind
            self._finish(self._record, at)

    def close(self) -> None:
        """Close without calling `on_done`."""
        self._record = None
        self._close()

    def _on_disconnect(self, record: RequestRecord, at: float) -> None:
        # A body without a length ends with the connection, which httptools does not report.
        if self._reader is not None and record.status == 200 and record.finished:
            self._reader.end(at)
            self._finish(record, at)
        else:
            self.fail("disconnected", at)

    def _finish(self, record: RequestRecord, at: float) -> None:
        record.ended = at
        self.completed += record.error is None
        on_done, self._record, self._reader = self._on_done, None, None
        if on_done is not None:
            on_done(self, record)

    def _close(self) -> None:
        self.usable = False
        if self._transport is not None:
            self._transport.abort()
