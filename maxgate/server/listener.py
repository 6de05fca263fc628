"""Accepting connections, with a response for every client when file descriptors run out."""

import asyncio
import resource
import socket
from collections.abc import Callable
from typing import Final, NamedTuple, Self

import structlog
import uvicorn
from typing_extensions import override

from maxgate.net.shortage import find_shortage, report_shortage
from maxgate.server.protocol import GatewayProtocol

_PAUSE: Final = 0.02
_MAX_RESERVE: Final = 256

_log = structlog.get_logger("server")


class DescriptorReserve(NamedTuple):
    """File descriptors that are kept for engines, files and refusals.

    The system assigns the lowest free number, so the number of a new descriptor shows how many are
    in use. Connections numbered `refuse_from` or more get a 503. From `pause_from` on, the rest
    wait until one of these is closed.
    """

    refuse_from: float
    pause_from: float

    @classmethod
    def choose(cls) -> Self:
        """Keep a quarter of the soft limit, at most 256."""
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if limit == resource.RLIM_INFINITY:
            return cls(float("inf"), float("inf"))
        reserve = min(limit // 4, _MAX_RESERVE)
        return cls(limit - reserve, limit - reserve // 2)


class Listener:
    """Accepts the connections of a listening socket; it is closed as an asyncio.Server is.

    asyncio stops accepting for a second when there is no descriptor for a connection, and libuv
    closes all connections that wait.
    """

    def __init__(
        self,
        listening: socket.socket,
        create_protocol: Callable[[], GatewayProtocol],
        reserve: DescriptorReserve,
    ) -> None:
        self._listening = listening
        self._create_protocol = create_protocol
        self._reserve = reserve
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        listening.setblocking(False)
        self._resume()

    def close(self) -> None:
        """Stop accepting and close the socket; accepted connections stay open."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._listening)
            self._listening.close()

    def _resume(self) -> None:
        if not self._closed:
            self._loop.add_reader(self._listening, self._accept)

    def _pause(self) -> None:
        self._loop.remove_reader(self._listening)
        self._loop.call_later(_PAUSE, self._resume)

    def _accept(self) -> None:
        try:
            connection, _ = self._listening.accept()
        except (BlockingIOError, ConnectionError):  # another worker was faster, or the client left
            return
        except OSError as error:
            if find_shortage(error) is None:
                _log.warning("a connection could not be accepted", error=str(error))
            self._pause()
            return
        connection.setblocking(False)
        refuse = connection.fileno() >= self._reserve.refuse_from
        if refuse:
            report_shortage("file descriptors")
        if connection.fileno() >= self._reserve.pause_from:
            self._pause()
        task = self._loop.create_task(self._serve(connection, refuse=refuse))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: socket.socket, *, refuse: bool) -> None:
        protocol = self._create_protocol()
        if refuse:
            protocol.refuse_request()
        try:
            await self._loop.connect_accepted_socket(lambda: protocol, connection)
        except OSError as error:  # the client has left
            _log.debug("a connection was lost while it was accepted", error=str(error))
            connection.close()


class ListeningServer(uvicorn.Server):
    """uvicorn's server with a Listener for each socket."""

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])
        reserve = DescriptorReserve.choose()
        self.servers: list[Listener] = [  # type: ignore[assignment]  # only closed
            Listener(listening, self._create_protocol, reserve) for listening in sockets or ()
        ]

    def _create_protocol(self) -> GatewayProtocol:
        protocol: GatewayProtocol = self.config.http_protocol_class(  # type: ignore[call-arg,assignment]
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        return protocol
