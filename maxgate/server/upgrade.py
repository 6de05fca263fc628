"""Go on with a request after its Upgrade header has stopped the parser.

A server that does not take an upgrade ignores it (RFC 9110, section 7.8). The JDK's HTTP client
asks for `h2c` in its first request. llhttp stops at the end of such a request's headers, skips its
body and takes everything that follows for another protocol.
"""

from collections.abc import Sequence
from typing import Final, Protocol

import httptools

_FRAMING: Final = {b"content-length", b"transfer-encoding"}


class ParserCallbacks(Protocol):
    """The callbacks of httptools' request parser."""

    def on_message_begin(self) -> None:
        """Handle the start of a request."""
        ...

    def on_url(self, url: bytes) -> None:
        """Handle a part of the request target."""
        ...

    def on_header(self, name: bytes, value: bytes) -> None:
        """Handle a header or trailer."""
        ...

    def on_headers_complete(self) -> None:
        """Handle the end of the headers."""
        ...

    def on_body(self, body: bytes) -> None:
        """Handle a part of the body."""
        ...

    def on_message_complete(self) -> None:
        """Handle the end of a request."""
        ...


class _WithoutFirstHead:
    """Forwards all callbacks but those for the head of the first request."""

    def __init__(self, callbacks: ParserCallbacks) -> None:
        self._callbacks = callbacks
        self._in_first_head = True
        self.on_body = callbacks.on_body
        self.on_message_complete = callbacks.on_message_complete

    def on_message_begin(self) -> None:
        if not self._in_first_head:
            self._callbacks.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self._in_first_head:
            self._callbacks.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_first_head:
            self._callbacks.on_header(name, value)

    def on_headers_complete(self) -> None:
        if not self._in_first_head:
            self._callbacks.on_headers_complete()
        self._in_first_head = False


def resume_request(
    callbacks: ParserCallbacks, headers: Sequence[tuple[bytes, bytes]]
) -> tuple[httptools.HttpRequestParser, bytes]:
    """Return a parser for the rest of the connection, and the bytes to feed it first.

    `headers` are those of the stopped request. The bytes that follow them come next.
    """
    parser = httptools.HttpRequestParser(_WithoutFirstHead(callbacks))
    parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
    framing = [b"%b: %b\r\n" % header for header in headers if header[0] in _FRAMING]
    return parser, b"POST / HTTP/1.1\r\n%b\r\n" % b"".join(framing)
