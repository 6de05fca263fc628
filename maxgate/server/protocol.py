"""HTTP/1.1 below ASGI: clients that do not speak it, that take too long, and that leave."""

import asyncio
import re
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from maxgate.api.errors import error_json
from maxgate.errors import GatewayError, HeadersTooLarge, InvalidRequest, RequestTimeout
from maxgate.net.idle_timer import IdleTimer
from maxgate.net.write_buffer import BufferedTransport, WriteBuffer
from maxgate.server.response_cycle import ResponseCycle, path_and_query

MAX_HEADER_BYTES: Final = 32 * 1024
"""Bytes of the first line and the headers together."""
# RFC 3986, section 3.2: a name or address, and a port.
_HOST: Final = re.compile(rb"(?:[\w.~!$&'()*+,;=%-]*|\[[\w.:]+\])(?::\d*)?", re.ASCII)


Headers = Sequence[tuple[bytes, bytes]]


def check_host(headers: Headers) -> None:
    """Raise InvalidRequest for several Hosts, or one that names no host.

    RFC 9112, section 3.2, asks for it. A request that carries none is served: nothing here depends
    on it.
    """
    hosts = [value for name, value in headers if name == b"host"]
    if hosts and (len(hosts) > 1 or _HOST.fullmatch(hosts[0]) is None):
        raise InvalidRequest("The Host header is not the name of one host.")


def check_size(url: bytes, headers: Headers) -> None:
    """Raise HeadersTooLarge where it is more than MAX_HEADER_BYTES."""
    if len(url) + sum(len(name) + len(value) for name, value in headers) > MAX_HEADER_BYTES:
        raise HeadersTooLarge(f"The head of the request is larger than {MAX_HEADER_BYTES} bytes.")


_REASONS: Final = {
    400: b"Bad Request",
    408: b"Request Timeout",
    431: b"Request Header Fields Too Large",
}


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one.

    Connections made through it send small pieces at once: asyncio switches Nagle's algorithm off
    only where a socket says that it is TCP, and with it on, a client waits 40 ms for each answer.

    Raises OSError where the address is taken or is not one of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except BaseException:
        listener.close()
        raise
    return listener


class GatewayProtocol(HttpToolsProtocol):
    """uvicorn's own, with five things added.

    Its errors have OpenAI's shape. What is written in one turn of the event loop is sent at its
    end, together with what other connections that share `writes` have. A request has to arrive
    within `arrival_timeout` seconds, its headers and its body. What `check_host` and `check_size`
    refuse never gets to the application. And `scope["maxgate.connection"]` tells at once when the
    client has left, without a task that waits for it.
    """

    def __init__(
        self,
        *arguments: Any,
        writes: WriteBuffer | None = None,
        arrival_timeout: float = 30,
        **keywords: Any,
    ) -> None:
        super().__init__(*arguments, **keywords)
        self._writes = writes or WriteBuffer()
        self._arrival_timeout = arrival_timeout
        self._is_arriving = True
        self._deadline = IdleTimer(self.loop, self._waited_long_enough)
        self._is_lost = False
        self._read_now = 0
        self._read_without_body = 0
        self._refusal: GatewayError | None = None
        self._when_lost: Callable[[], None] | None = None

    def when_lost(self, callback: Callable[[], None] | None) -> None:
        """Call this when the connection is lost, or now if it is already; None calls nothing."""
        self._when_lost = callback
        if self._is_lost and callback is not None:
            callback()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio."""
        super().connection_made(BufferedTransport(transport, self._writes))
        self._request_arrives()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        super().connection_lost(exc)
        self._is_lost = True
        if self._when_lost is not None:
            self._when_lost()
        self._let_go()

    def _let_go(self) -> None:
        # They know this object, too: in such circles only garbage collection would find them, and
        # it stops every request while it looks.
        self._deadline.close()
        self.scope = self.cycle = self._when_lost = None  # type: ignore[assignment]
        self.pipeline.clear()

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._read_now = len(data)
        super().data_received(data)
        # Headers, trailers and the extensions of chunks: most of it is kept in memory.
        self._read_without_body += len(data)
        if self._read_without_body > MAX_HEADER_BYTES and not self.transport.is_closing():
            self._refuse(HeadersTooLarge("The head or the trailers of the request do not end."))

    def on_message_begin(self) -> None:
        """See httptools."""
        super().on_message_begin()
        self._read_without_body = -self._read_now
        self.scope["maxgate.connection"] = self  # type: ignore[typeddict-unknown-key]
        self._request_arrives()

    def on_headers_complete(self) -> None:
        """See httptools."""
        try:
            if (
                self._read_now > MAX_HEADER_BYTES or self._read_without_body >= 0
            ):  # else it was one read
                check_size(self.url, self.headers)
            check_host(self.headers)
        except GatewayError as error:
            self._refusal = error
            raise  # the parser stops, and send_400_response is called
        self._begin_exchange()

    def _begin_exchange(self) -> None:
        parser, scope = self.parser, self.scope
        last: ResponseCycle | None = self.cycle  # type: ignore[assignment]  # all are
        version = parser.get_http_version()
        scope["http_version"] = version
        scope["method"] = parser.get_method().decode("ascii")
        scope["path"], scope["raw_path"], scope["query_string"] = path_and_query(self.url)
        self.cycle = ResponseCycle(
            scope,
            self.transport,
            self.flow,
            self.logger,
            self.access_logger,
            self.access_log,
            self.server_state.default_headers,
            asyncio.Event(),
            self.expect_100_continue,
            version != "1.0" and parser.should_keep_alive(),
            self.on_response_complete,
        )
        if last is None or last.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:  # the next one of a pipeline
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        super().on_body(body)
        self._read_without_body = -self._read_now

    def on_message_complete(self) -> None:
        """See httptools."""
        super().on_message_complete()
        self._is_arriving = False
        self._deadline.cancel()

    def on_response_complete(self) -> None:
        """As uvicorn's own, without a timer for each wait for the next request."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif not self._is_arriving:
            self._deadline.reset(self.timeout_keep_alive)

    def _request_arrives(self) -> None:
        self._is_arriving = True
        self._deadline.reset(self._arrival_timeout)

    def _waited_long_enough(self) -> None:
        if self._is_arriving:
            self._refuse(RequestTimeout("The request did not arrive in time."))
        else:
            self.timeout_keep_alive_handler()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, and close the connection: nothing after it can be trusted."""
        self._refuse(self._refusal or InvalidRequest(msg))

    def _refuse(self, error: GatewayError) -> None:
        body = error_json(error)
        self.transport.write(
            b"HTTP/1.1 %d %b\r\n"
            b"content-type: application/json\r\n"
            b"content-length: %d\r\n"
            b"connection: close\r\n\r\n"
            b"%b" % (error.status, _REASONS[error.status], len(body), body)
        )
        self.transport.close()
