"""The response side of one request on an HTTP/1.1 connection."""

from collections.abc import Iterable, MutableMapping
from typing import Any, Final

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from maxgate.api.connection import HEADER_LINES

_WITHOUT_BODY: Final = {204, 304}
_LENGTH: Final = b"\r\ncontent-length: "
_CLOSE: Final = b"connection: close"
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_COMMENT_CHUNK: Final = b"3\r\n:\n\n\r\n"
_join: Final = b": ".join


class ResponseCycle(RequestResponseCycle):
    """uvicorn's response cycle with a faster `send`.

    Header names must be lower case and values free of line breaks; our own code and Starlette's
    responses guarantee the former, `_send_head` checks the latter once for all headers. The
    HEADER_LINES of a message are sent as they are.

    A body of unknown length is chunked for HTTP/1.1; for HTTP/1.0, which has no chunks, closing the
    connection ends it (RFC 9112, section 6.3).
    """

    _held_head = b""
    _ends_with_connection = False
    _headers: Iterable[tuple[bytes, bytes]] = ()

    @property
    def probe(self) -> bytes:
        """Bytes that every client skips at this point, if there are any.

        Before the response, an informational one (RFC 9110, section 15.2), which HTTP/1.0 does not
        have; in a stream of events, a comment.
        """
        if not self.response_started:
            return b"" if self.scope["http_version"] == "1.0" else _CONTINUE
        is_event_stream = any(
            name == b"content-type" and value.startswith(b"text/event-stream")
            for name, value in self._headers
        )
        return _COMMENT_CHUNK if is_event_stream and self.chunked_encoding else b""

    @override
    async def send(self, message: MutableMapping[str, Any]) -> None:  # type: ignore[override]
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if message["type"] == "http.response.start":
            lines = message.get(HEADER_LINES, b"")
            self._send_head(message["status"], message.get("headers", ()), lines)
        else:
            self._send_body(message.get("body", b""), message.get("more_body", False))

    def _send_head(
        self, status: int, headers: Iterable[tuple[bytes, bytes]], more_lines: bytes
    ) -> None:
        if self.response_started:
            raise RuntimeError("the response has already started")
        self.response_started = True
        self._headers = headers
        self.waiting_for_100_continue = False
        # All lines at once: a loop in Python would cost more than all else here.
        lines = [*map(_join, self.default_headers), *map(_join, headers)]
        while _CLOSE in lines:
            self.keep_alive = False
            lines.remove(_CLOSE)
        lines += (b"", b"") if self.keep_alive else (_CLOSE, b"", b"")
        head = b"\r\n".join(lines)
        if head.count(b"\n") != len(lines) - 1:
            raise RuntimeError("a response header contains a line break")
        head = STATUS_LINE[status] + more_lines + head
        unknown_length = self.scope["method"] != "HEAD" and status not in _WITHOUT_BODY
        if (before := head.find(_LENGTH)) >= 0:
            unknown_length = False
            start = before + len(_LENGTH)
            self.expected_content_length = int(head[start : head.index(b"\r", start)])
        chunked = unknown_length and self.scope["http_version"] != "1.0"
        if chunked:
            head = head[:-2] + b"transfer-encoding: chunked\r\n\r\n"
        self.chunked_encoding = chunked
        self._ends_with_connection = unknown_length and not chunked
        if self.expected_content_length:
            self._held_head = head  # goes out with the body, which follows at once
        else:
            self.transport.write(head)

    def _send_body(self, body: bytes, more: bool) -> None:
        if not self.response_started or self.response_complete:
            raise RuntimeError("no response is in progress")
        if self.chunked_encoding:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            self.transport.write(chunk if more else chunk + b"0\r\n\r\n")
        elif self._ends_with_connection:
            self.transport.write(body)
        elif self.scope["method"] == "HEAD":
            self.transport.write(self._held_head)
            self._held_head = b""
            self.expected_content_length = 0
        else:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0:
                raise RuntimeError("the response body is longer than its Content-Length")
            self.transport.write(self._held_head + body)
            self._held_head = b""
        if not more:
            self._finish()

    def _finish(self) -> None:
        if self.expected_content_length:
            raise RuntimeError("the response body is shorter than its Content-Length")
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
