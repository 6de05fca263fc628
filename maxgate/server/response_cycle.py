"""One request and its answer, on a connection that speaks HTTP/1.1."""

from collections.abc import Iterable, MutableMapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

_WITHOUT_BODY: Final = {204, 304}


class ResponseCycle(RequestResponseCycle):
    """uvicorn's own, with its answers written by less work.

    They come from the routes and pages of this gateway. So the names and values of their headers
    are not looked through again: names are in lower case, and what a client chose, the id of its
    request, was checked when it was taken over.
    """

    async def send(self, message: MutableMapping[str, Any]) -> None:  # type: ignore[override]
        """See ASGI."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if message["type"] == "http.response.start":
            self._begin(message["status"], message.get("headers", ()))
        else:
            self._go_on(message.get("body", b""), message.get("more_body", False))

    def _begin(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        if self.response_started:
            raise RuntimeError("an answer has begun already")
        self.response_started = True
        self.waiting_for_100_continue = False
        lines = [STATUS_LINE[status]]
        chunked = self.scope["method"] != "HEAD" and status not in _WITHOUT_BODY
        for name, value in (*self.default_headers, *headers):
            if name == b"content-length":
                chunked = False
                self.expected_content_length = int(value)
            elif name == b"connection" and value == b"close":
                self.keep_alive = False
                continue
            lines.append(b"%b: %b\r\n" % (name, value))
        if chunked:
            lines.append(b"transfer-encoding: chunked\r\n")
        lines.append(b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")
        self.chunked_encoding = chunked
        self.transport.write(b"".join(lines))

    def _go_on(self, body: bytes, more: bool) -> None:
        if not self.response_started or self.response_complete:
            raise RuntimeError("no answer is under way")
        if self.chunked_encoding:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            self.transport.write(chunk if more else chunk + b"0\r\n\r\n")
        elif self.scope["method"] == "HEAD":
            self.expected_content_length = 0
        else:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0:
                raise RuntimeError("the body is longer than its content-length")
            self.transport.write(body)
        if not more:
            self._end()

    def _end(self) -> None:
        if self.expected_content_length:
            raise RuntimeError("the body is shorter than its content-length")
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


@lru_cache(maxsize=64)
def path_and_query(target: bytes) -> tuple[str, bytes, bytes]:
    """The path, decoded and as it came, and the query of a request's target.

    Raises httptools' errors for what is no URL.
    """
    url = httptools.parse_url(target)
    path = url.path.decode("ascii")
    return unquote(path) if "%" in path else path, url.path, url.query or b""
