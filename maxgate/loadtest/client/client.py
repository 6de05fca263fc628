"""Sending to one server over a pool of connections."""

import asyncio
import ssl
from collections.abc import Callable, Mapping

from maxgate.errors import MaxgateError
from maxgate.loadtest.client.address import Address
from maxgate.loadtest.client.connection import Connection
from maxgate.loadtest.client.request_record import Exchange
from maxgate.loadtest.client.timing import Inbox

Finished = Callable[[Exchange], None]


class ServerAway(MaxgateError):
    """Nobody answers there."""


class Client:
    """Everything one server is asked by this process.

    `in_flight` holds what was sent and is not answered, oldest first.
    """

    def __init__(
        self,
        address: Address,
        headers: Mapping[str, str],
        *,
        loop: asyncio.AbstractEventLoop,
        monotonic: Callable[[], float],
        run_id: str,
    ) -> None:
        self._address, self._loop, self._monotonic = address, loop, monotonic
        self._head = address.head(headers) + b"x-request-id: " + run_id.encode() + b"-"
        self._inbox = Inbox(loop, monotonic)
        self._tls: ssl.SSLContext | None = address.context()
        self._idle: list[Connection] = []
        self._connecting: set[asyncio.Task[None]] = set()
        self.in_flight: dict[Exchange, Connection | None] = {}
        self._finished: dict[Exchange, tuple[bytes, Finished]] = {}
        self._host = address.host
        self.server: bytes | None = None

    async def open(self, count: int) -> None:
        """Have this many idle connections. Raises ServerAway where the server takes none."""
        try:
            for _ in range(count - len(self._idle)):
                self._idle.append(await self._connect())
        except OSError as error:
            reason = error.strerror or str(error) or "connection refused"
            raise ServerAway(f"{self._address.url} does not answer: {reason}") from error

    def send(self, exchange: Exchange, body: bytes, finished: Finished) -> None:
        """Send it now; `finished` is called once, later, however it ends."""
        request = b"%b%d-%d\r\ncontent-length: %d\r\n\r\n%b" % (
            self._head,
            exchange.index,
            exchange.turn,
            len(body),
            body,
        )
        self._finished[exchange] = (request, finished)
        exchange.sent = self._monotonic()
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                self.in_flight[exchange] = connection
                connection.send(request, exchange, self._done)
                return
        self._send_on_new(exchange, request)

    def expire(self, timeout: float) -> None:
        """Fail what has been under way for longer than this many seconds."""
        now = self._monotonic()
        late = []
        for exchange, connection in self.in_flight.items():
            if now - exchange.sent < timeout:
                break
            late.append((exchange, connection))
        for exchange, connection in late:
            if connection is not None:
                connection.fail("timeout", now)
            else:
                self._over(exchange, "timeout", now)

    async def close(self) -> None:
        """Drop all connections; what is under way is left as it is."""
        for task in self._connecting:
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        for connection in [*self._idle, *self.in_flight.values()]:
            if connection is not None:
                connection.close()
        self._idle.clear()

    async def _connect(self) -> Connection:
        transport, connection = await self._loop.create_connection(
            lambda: Connection(self._inbox), self._host, self._address.port, ssl=self._tls
        )
        if self._tls is None:
            # Looking the name up again for every connection would be the client's own time.
            self._host = transport.get_extra_info("peername")[0]
        return connection

    def _send_on_new(self, exchange: Exchange, request: bytes) -> None:
        self.in_flight[exchange] = None
        task = self._loop.create_task(self._connect_and_send(exchange, request))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect_and_send(self, exchange: Exchange, request: bytes) -> None:
        began = self._monotonic()
        try:
            connection = await self._connect()
        except OSError:
            self._over(exchange, "connect", self._monotonic())
            return
        exchange.connect = self._monotonic() - began
        if exchange in self.in_flight:
            self.in_flight[exchange] = connection
            connection.send(request, exchange, self._done)
        else:
            self._idle.append(connection)  # it has timed out meanwhile

    def _done(self, connection: Connection, exchange: Exchange) -> None:
        # A kept connection that the server closed just before: any client sends again.
        gone = exchange.error == "disconnected" and not exchange.first_byte
        if gone and connection.answered:
            exchange.start_over()
            self._send_on_new(exchange, self._finished[exchange][0])
            return
        if connection.usable:
            self._idle.append(connection)
        if connection.server is not None:
            self.server = connection.server
        self._settle(exchange)

    def _over(self, exchange: Exchange, kind: str, at: float) -> None:
        if exchange in self.in_flight:
            exchange.error, exchange.ended = kind, at
            self._settle(exchange)

    def _settle(self, exchange: Exchange) -> None:
        del self.in_flight[exchange]
        _, finished = self._finished.pop(exchange)
        finished(exchange)
