"""The server of one worker process: it starts, drains or retires at the parent's command."""

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

import structlog
import uvicorn
from typing_extensions import override

from maxgate.server.control import BLOCKED_SIGNALS, Command, Report, ServingState, receive, send
from maxgate.server.listener import ListeningServer
from maxgate.server.protocol import GatewayProtocol

_POLL_INTERVAL: Final = 0.05
_ERROR_TIMEOUT: Final = 1.0
# Clients with an open connection that are about to send a request do so in this time.
_LAST_REQUEST_TIMEOUT: Final = 0.5

_log = structlog.get_logger("server")


class GatewayServer(ListeningServer):
    """uvicorn's server, controlled by the parent process, that leaves no request unanswered.

    DRAIN: new requests get a 503, on new connections, too, until the running ones have ended.
    The application may set `state.on_drain`, which is called then.
    RETIRE: nothing is accepted, and requests on open connections are served; each response closes
    its connection. Both last up to `timeout_graceful_shutdown` seconds, or until STOP. After that,
    streams get an error event and other requests a 503.
    """

    def __init__(self, config: uvicorn.Config, control: socket.socket, state: ServingState) -> None:
        super().__init__(config)
        control.setblocking(False)
        self._control = control
        self._state = state
        self._running: set[asyncio.Task[None]] = set()
        self.servers = []  # filled by startup

    @override
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in BLOCKED_SIGNALS:
            loop.add_signal_handler(number, partial(self._handle_signal, number))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED_SIGNALS)
        loop.add_reader(self._control, self._read_commands)
        yield
        loop.remove_reader(self._control)

    def _handle_signal(self, number: signal.Signals) -> None:
        # The terminal sends SIGINT and SIGQUIT to the parent as well, which then sends a command.
        if number == signal.SIGTERM:
            if not send(self._control, Report.TERMINATED):
                self._handle(Command.DRAIN)
        elif number not in {signal.SIGINT, signal.SIGQUIT}:
            _log.info(f"{number.name} ignored by a worker; send it to the parent process")

    def _read_commands(self) -> None:
        commands = receive(self._control)
        if commands is None:
            asyncio.get_running_loop().remove_reader(self._control)
            self._handle(Command.DRAIN)
            return
        for command in commands:
            self._handle(Command(bytes([command])))

    def _handle(self, command: Command) -> None:
        if command == Command.STOP:
            self.force_exit = True
            return
        self._state.closes_connections = self.should_exit = True
        if command == Command.DRAIN:
            self._state.refuses_requests = True
            self._running = set(self.server_state.tasks)
            on_drain = getattr(getattr(self.config.loaded_app, "state", None), "on_drain", None)
            if on_drain is not None:
                on_drain()
        else:
            self._stop_accepting()
        for connection in self.server_state.connections:
            if isinstance(connection, GatewayProtocol):
                connection.apply_state()

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        send(self._control, Report.READY)

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        timeout = self.config.timeout_graceful_shutdown or 0
        deadline = loop.time() + timeout
        if running := len(self.server_state.tasks):
            _log.info(
                f"waiting for {format_requests(running)}, up to {timeout} s; "
                "Ctrl-C again to stop now"
            )
        # uvicorn reports neither the end of a task nor a signal.
        while self._is_busy() and not self.force_exit and loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(_POLL_INTERVAL)
        self._stop_accepting()
        await self._wait_for_connections(min(deadline, loop.time() + _LAST_REQUEST_TIMEOUT))
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await self._wait_for_connections(deadline)
        if self.server_state.tasks:
            await self._cancel_requests()
        await self._wait_for_held_writes()
        for connection in list(self.server_state.connections):
            connection.transport.abort()  # the client does not read
        await self.lifespan.shutdown()

    def _is_busy(self) -> bool:
        if self._state.refuses_requests:
            # Requests that came later get a 503, which must not prolong the wait.
            return not self._running.isdisjoint(self.server_state.tasks)
        return bool(self.server_state.tasks or self.server_state.connections)

    def _stop_accepting(self) -> None:
        for listener in self.servers:
            listener.close()
        if self.servers:
            send(self._control, Report.CLOSED)
        self.servers = []

    async def _wait_for_connections(self, deadline: float) -> None:
        loop, state = asyncio.get_running_loop(), self.server_state
        while state.connections and not self.force_exit and loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(_POLL_INTERVAL)

    async def _wait_for_held_writes(self) -> None:
        """Wait until the responses that are held have left, for a bounded time."""
        loop, connections = asyncio.get_running_loop(), self.server_state.connections
        deadline = loop.time() + _ERROR_TIMEOUT
        while loop.time() < deadline and any(  # noqa: ASYNC110
            isinstance(connection, GatewayProtocol) and connection.is_holding
            for connection in connections
        ):
            await asyncio.sleep(_POLL_INTERVAL)

    async def _cancel_requests(self) -> None:
        tasks = set(self.server_state.tasks)
        _log.warning(f"cancelling {format_requests(len(tasks))}")
        for connection in self.server_state.connections:
            if isinstance(connection, GatewayProtocol):
                connection.is_shutting_down = True
        for task in tasks:
            task.cancel()
        _, unfinished = await asyncio.wait(tasks, timeout=_ERROR_TIMEOUT)
        loop, state = asyncio.get_running_loop(), self.server_state
        deadline = loop.time() + _ERROR_TIMEOUT
        while state.connections and not unfinished and loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(_POLL_INTERVAL)
        if unfinished:
            for connection in list(self.server_state.connections):
                connection.transport.abort()
            await asyncio.wait(unfinished, timeout=_ERROR_TIMEOUT)


def format_requests(count: int) -> str:
    """Return `1 request` or `3 requests`."""
    return "1 request" if count == 1 else f"{count} requests"


def describe_exit(code: int | None) -> str:
    """Return the cause of a process's end, such as `SIGKILL` or `exit code 1`."""
    if code is None or code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:  # a real-time signal
        return f"signal {-code}"
