"""HTTP/1.1 below ASGI: uvicorn's protocol with limits, timeouts, disconnects and write batching."""

import asyncio
import socket
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote

import httptools
from typing_extensions import override
from uvicorn.protocols.http.flow_control import service_unavailable
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from maxgate.api.connection import EXTENSION
from maxgate.api.errors import encode_error
from maxgate.api.header_limits import MAX_HEADER_BYTES, check_host, check_size, is_valid_host
from maxgate.errors import GatewayError, HeadersTooLarge, InvalidRequest, RequestTimeout
from maxgate.net.idle_timer import IdleTimer
from maxgate.net.write_buffer import BufferedTransport, WriteBuffer
from maxgate.server.control import ServingState
from maxgate.server.half_close import HalfCloseWatch
from maxgate.server.response_cycle import ResponseCycle
from maxgate.server.upgrade import resume_request

_REASONS: Final = {
    400: b"Bad Request",
    408: b"Request Timeout",
    431: b"Request Header Fields Too Large",
}
_REFUSAL_TIMEOUT: Final = 1.0


def listening_socket(host: str, port: int) -> socket.socket:
    """Open a listening socket; port 0 takes a free port.

    asyncio disables Nagle's algorithm only for sockets that name TCP as their protocol; without
    that, each small response would wait 40 ms.

    Raises OSError if the address is in use or not local.
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
    """uvicorn's httptools protocol with ten additions.

    Protocol errors have OpenAI's shape. Writes are batched per turn of the event loop, across all
    connections that share `writes`. A request must arrive, headers and body, within
    `request_read_timeout` seconds. Requests that violate the header limits never reach the
    application. The ASGI extension `maxgate.connection` reports disconnects without a task, and can
    hold the end of a response. An Upgrade header is ignored. A client that closes only its sending
    side gets its response, and one that does not read for `write_timeout` seconds is disconnected.
    `state` can end keep-alive.
    """

    def __init__(
        self,
        *arguments: Any,
        writes: WriteBuffer | None = None,
        state: ServingState | None = None,
        request_read_timeout: float = 30,
        write_timeout: float = 60,
        **keywords: Any,
    ) -> None:
        super().__init__(*arguments, **keywords)
        self._state = state or ServingState()
        self.refuses_requests = self._state.refuses_requests
        self._writes = writes or WriteBuffer()
        self._request_read_timeout = request_read_timeout
        self._write_timeout = write_timeout
        self._write_timer: asyncio.TimerHandle | None = None
        self._half_close: HalfCloseWatch | None = None
        self._is_reading_request = True
        self._timer = IdleTimer(self.loop, self._handle_timeout)
        self.is_lost = False
        self._is_closing: Callable[[], bool] = bool
        self._bytes_in_read = 0
        self._header_bytes = 0
        self._refusal: GatewayError | None = None
        self.on_disconnect: Callable[[], None] | None = None
        self.is_shutting_down = False
        self.lacks_descriptors = False

    @property
    def is_holding(self) -> bool:
        """Whether the rest of a response is held; see ClientConnection."""
        return self._buffered.is_holding

    @property
    def _closes_connection(self) -> bool:
        return self.lacks_descriptors or self._state.closes_connections

    def refuse_request(self) -> None:
        """Serve one request at most, which must arrive soon: file descriptors are running out."""
        self.lacks_descriptors = True
        self._request_read_timeout = min(self._request_read_timeout, _REFUSAL_TIMEOUT)

    def apply_state(self) -> None:
        """Apply a change of `state`: close the connection after the current response.

        If the headers of that are gone, the next response announces the end of the connection: the
        client may have sent its next request already.
        """
        self.refuses_requests = self._state.refuses_requests
        cycle: ResponseCycle | None = self.cycle  # type: ignore[assignment]  # all of them are
        if cycle is not None and not cycle.response_started:
            cycle.keep_alive = False

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        buffered = BufferedTransport(transport, self._writes, self._write_timeout)
        super().connection_made(buffered)
        self._buffered = buffered
        self._is_closing = transport.is_closing
        self.hold_writes = buffered.hold
        self._start_reading()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.is_lost = True
        if self.on_disconnect is not None:
            self.on_disconnect()
        self.resume_writing()
        if self._half_close is not None:
            self._half_close.cancel()
        # Break reference cycles: freeing them by garbage collection would pause every request.
        self._timer.close()
        self._half_close = None
        self.scope = self.cycle = self.on_disconnect = None  # type: ignore[assignment]
        self._is_closing = bool
        self.pipeline.clear()

    @override
    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn always closes
        cycle: ResponseCycle | None = self.cycle  # type: ignore[assignment]  # all of them are
        if self._is_reading_request or cycle is None or cycle.response_complete:
            self.transport.close()  # once what is pending or held has left
            return self.is_holding
        if self._half_close is None:
            # With pipelined requests, the last cycle is not the one that responds.
            probe = b"" if self.pipeline else cycle.probe
            self._half_close = HalfCloseWatch(self.transport, self.transport.abort, probe)
        return True

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self._write_timeout, self.transport.abort)

    @override
    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    @override
    def data_received(self, data: bytes) -> None:
        if self._buffered.closes_on_release:
            return  # unread data would reset the connection, and the held response with it
        self._bytes_in_read = len(data)
        self._feed_parser(data)
        # Headers, trailers and chunk extensions; most of them stay in memory.
        self._header_bytes += len(data)
        if self._header_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            self._refuse(
                HeadersTooLarge(f"Headers or trailers are larger than {MAX_HEADER_BYTES} bytes.")
            )

    def _feed_parser(self, data: bytes) -> None:
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                self.parser, head = resume_request(self, self.headers)
                data = head + data[upgrade.args[0] :]
            except httptools.HttpParserError:
                self.send_400_response("Invalid HTTP request received.")
                return
            else:
                return

    @override
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._header_bytes = -self._bytes_in_read
        self.scope["extensions"] = {EXTENSION: self}  # type: ignore[dict-item]  # our own
        self._start_reading()

    @override
    def on_headers_complete(self) -> None:
        try:
            # Headers that arrived in one small read cannot be too large.
            if self._bytes_in_read > MAX_HEADER_BYTES or self._header_bytes >= 0:
                check_size(self.url, self.headers)
            hosts = [value for name, value in self.headers if name == b"host"]
            if len(hosts) != 1 or not is_valid_host(hosts[0]):
                check_host(self.headers)
        except GatewayError as error:
            self._refusal = error
            raise  # the parser stops, and send_400_response is called
        self._start_cycle()

    def _start_cycle(self) -> None:
        parser, scope = self.parser, self.scope
        last: ResponseCycle | None = self.cycle  # type: ignore[assignment]  # all of them are
        version = parser.get_http_version()
        scope["http_version"] = version
        scope["method"] = parser.get_method().decode("ascii")
        path, raw_path, scope["query_string"] = _parse_target(self.url)
        if root_path := self.root_path:
            path, raw_path = root_path + path, root_path.encode("ascii") + raw_path
        scope["path"], scope["raw_path"] = path, raw_path
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
            version != "1.0" and parser.should_keep_alive() and not self._closes_connection,
            self.on_response_complete,
        )
        app = self.app
        limit = self.limit_concurrency
        if limit is not None and max(len(self.connections), len(self.tasks)) >= limit:
            app = service_unavailable
        if last is None or last.response_complete:
            self._start_asgi_task(self.cycle, app)
        else:  # a pipelined request waits for the response before it
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, app))

    @override
    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._header_bytes = -self._bytes_in_read

    @override
    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # the parser has skipped the body
        super().on_message_complete()
        self._is_reading_request = False
        self._timer.cancel()

    @override
    def on_response_complete(self) -> None:
        # As uvicorn's, but with one timer per connection instead of one per idle period.
        self.server_state.total_requests += 1
        if self._is_closing() or self._buffered.closes_on_release:
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._half_close is not None:
            self.transport.close()
        elif not self._is_reading_request:
            self._timer.reset(self.timeout_keep_alive)

    def _start_reading(self) -> None:
        self._is_reading_request = True
        self._timer.reset(self._request_read_timeout)

    def _handle_timeout(self) -> None:
        if self._is_reading_request:
            self._refuse(
                RequestTimeout(
                    f"The request did not arrive within {self._request_read_timeout:g} seconds."
                )
            )
        else:
            self.timeout_keep_alive_handler()

    @override
    def send_400_response(self, msg: str) -> None:
        self._refuse(self._refusal or InvalidRequest(msg))

    def _refuse(self, error: GatewayError) -> None:
        """Respond and close the connection: nothing that follows on it can be trusted."""
        body = encode_error(error)
        self.transport.write(
            b"HTTP/1.1 %d %b\r\n"
            b"content-type: application/json\r\n"
            b"content-length: %d\r\n"
            b"connection: close\r\n\r\n"
            b"%b" % (error.status, _REASONS[error.status], len(body), body)
        )
        self.transport.close()


@lru_cache(maxsize=64)
def _parse_target(target: bytes) -> tuple[str, bytes, bytes]:
    """Return the decoded path, the raw path and the query of a request target.

    Raises httptools' error for an invalid URL.
    """
    url = httptools.parse_url(target)
    path = url.path.decode("ascii")
    return unquote(path) if "%" in path else path, url.path, url.query or b""
