"""Send requests to one server over a pool of connections."""

import asyncio
import ssl
from collections.abc import Callable, Mapping

from maxgate.errors import MaxgateError
from maxgate.loadtest.client.address import Trust, build_head
from maxgate.loadtest.client.connection import Connection
from maxgate.loadtest.client.limits import classify_connect_error, explain_connect_error
from maxgate.loadtest.client.request_record import RequestRecord
from maxgate.loadtest.client.timing import Inbox
from maxgate.net.server_url import ServerUrl

OnFinished = Callable[[RequestRecord], None]


class ServerUnreachable(MaxgateError):
    """No connection to the server under test."""


class Client:
    """All requests of this process to one server.

    `in_flight` holds the unfinished requests, oldest first; the connection is None while it opens.
    """

    def __init__(
        self,
        server: ServerUrl,
        headers: Mapping[str, str],
        trust: Trust,
        *,
        loop: asyncio.AbstractEventLoop,
        monotonic: Callable[[], float],
        run_id: str,
    ) -> None:
        self._url, self._loop, self._monotonic = server, loop, monotonic
        self._head = build_head(server, headers) + b"x-request-id: " + run_id.encode() + b"-"
        self._inbox = Inbox(loop, monotonic)
        self._tls: ssl.SSLContext | None = trust.create_context() if server.tls else None
        self._idle: list[Connection] = []
        self._connecting: set[asyncio.Task[None]] = set()
        self.in_flight: dict[RequestRecord, Connection | None] = {}
        self._pending: dict[RequestRecord, tuple[bytes, OnFinished]] = {}
        self._host = server.host
        self.server: bytes | None = None

    async def open(self, count: int) -> None:
        """Open connections until `count` are idle. Raises ServerUnreachable."""
        try:
            for _ in range(count - len(self._idle)):
                self._idle.append(await self._connect())
        except OSError as error:
            if classify_connect_error(error) != "connect":
                raise ServerUnreachable(
                    f"opened {len(self._idle)} of {count} connections to {self._url.url}: "
                    f"{explain_connect_error(error)}"
                ) from error
            raise ServerUnreachable(
                f"cannot reach {self._url.url}: {explain_connect_error(error)}"
            ) from error

    def send(self, record: RequestRecord, body: bytes, on_finished: OnFinished) -> None:
        """Send a request now; `on_finished` is called once, later, however the request ends."""
        request = b"%b%d-%d\r\ncontent-length: %d\r\n\r\n%b" % (
            self._head,
            record.index,
            record.turn,
            len(body),
            body,
        )
        self._pending[record] = (request, on_finished)
        record.sent = self._monotonic()
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                self.in_flight[record] = connection
                connection.send(request, record, self._on_done)
                return
        self._send_on_new_connection(record, request)

    def expire(self, timeout: float) -> None:
        """Fail the requests that were sent more than `timeout` seconds ago."""
        now = self._monotonic()
        expired = []
        for record, connection in self.in_flight.items():
            if now - record.sent < timeout:
                break
            expired.append((record, connection))
        for record, connection in expired:
            if connection is not None:
                connection.fail("timeout", now)
            else:
                self._fail_unsent(record, "timeout", now)

    async def close(self) -> None:
        """Close all connections; unfinished requests stay in `in_flight`."""
        for task in self._connecting:
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        for connection in [*self._idle, *self.in_flight.values()]:
            if connection is not None:
                connection.close()
        self._idle.clear()

    async def _connect(self) -> Connection:
        transport, connection = await self._loop.create_connection(
            lambda: Connection(self._inbox), self._host, self._url.port, ssl=self._tls
        )
        if self._tls is None:
            # Resolve the name only once: later look-ups would count as the server's time.
            self._host = transport.get_extra_info("peername")[0]
        return connection

    def _send_on_new_connection(self, record: RequestRecord, request: bytes) -> None:
        self.in_flight[record] = None
        task = self._loop.create_task(self._connect_and_send(record, request))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect_and_send(self, record: RequestRecord, request: bytes) -> None:
        began = self._monotonic()
        try:
            connection = await self._connect()
        except OSError as error:
            record.failure = explain_connect_error(error).encode()
            self._fail_unsent(record, classify_connect_error(error), self._monotonic())
            return
        record.connect = self._monotonic() - began
        if record in self.in_flight:
            self.in_flight[record] = connection
            connection.send(request, record, self._on_done)
        else:
            self._idle.append(connection)  # the request timed out in the meantime

    def _on_done(self, connection: Connection, record: RequestRecord) -> None:
        # The server may close a kept-alive connection just as we reuse it; like any client, retry.
        stale = record.error == "disconnected" and not record.first_byte and connection.completed
        if stale:
            record.reset()
            self._send_on_new_connection(record, self._pending[record][0])
            return
        if connection.usable:
            self._idle.append(connection)
        if connection.server is not None:
            self.server = connection.server
        self._settle(record)

    def _fail_unsent(self, record: RequestRecord, kind: str, at: float) -> None:
        if record in self.in_flight:
            record.error, record.ended = kind, at
            self._settle(record)

    def _settle(self, record: RequestRecord) -> None:
        del self.in_flight[record]
        _, on_finished = self._pending.pop(record)
        on_finished(record)
