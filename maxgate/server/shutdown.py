"""Shutdown of the gateway: every request gets a response, and the terminal shows the state."""

import asyncio
import os
import signal
import socket
import threading
from typing import Final

import structlog
import uvicorn
from typing_extensions import override
from uvicorn.supervisors import Multiprocess, multiprocess

from maxgate.server.listener import ListeningServer
from maxgate.server.protocol import GatewayProtocol

_POLL_INTERVAL: Final = 0.05
_ERROR_TIMEOUT: Final = 1.0
_STOP_NOW_TIMEOUT: Final = 5.0

_log = structlog.get_logger()


class GatewayServer(ListeningServer):
    """uvicorn's server with a shutdown that leaves no request without a response.

    Requests have `timeout_graceful_shutdown` seconds to finish; a second Ctrl-C ends the wait.
    After that, streams get an error event and other requests a 503.
    """

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for listener in (*self.servers, *(sockets or ())):
            listener.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await self._drain()
        if self.server_state.tasks:
            await self._cancel_requests()
        await self.lifespan.shutdown()

    async def _drain(self) -> None:
        timeout = self.config.timeout_graceful_shutdown or 0
        if running := len(self.server_state.tasks):
            _log.info(
                f"waiting for {format_requests(running)}, up to {timeout} s; "
                "Ctrl-C again to stop now"
            )
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        # uvicorn reports neither the end of a task nor a signal.
        while self._is_busy() and not self.force_exit and loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(_POLL_INTERVAL)

    def _is_busy(self) -> bool:
        return bool(self.server_state.tasks or self.server_state.connections)

    async def _cancel_requests(self) -> None:
        tasks = set(self.server_state.tasks)
        _log.warning(f"cancelling {format_requests(len(tasks))}")
        for connection in self.server_state.connections:
            if isinstance(connection, GatewayProtocol):
                connection.is_shutting_down = True
        for task in tasks:
            task.cancel()
        _, unfinished = await asyncio.wait(tasks, timeout=_ERROR_TIMEOUT)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _ERROR_TIMEOUT
        while self._is_busy() and not unfinished and loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(_POLL_INTERVAL)
        for connection in list(self.server_state.connections):
            connection.transport.abort()  # the client does not read
        if unfinished:
            await asyncio.wait(unfinished, timeout=_ERROR_TIMEOUT)


def format_requests(count: int) -> str:
    """Return `1 request` or `3 requests`."""
    return "1 request" if count == 1 else f"{count} requests"


class WorkerProcess(multiprocess.Process):
    """A worker process that runs a GatewayServer."""

    @property
    @override
    def server(self) -> uvicorn.Server:
        if self._server is None:
            self._server = GatewayServer(self.config)
        return self._server


class GatewaySupervisor(Multiprocess):
    """uvicorn's supervisor of worker processes; it logs the end of a worker and stops at once.

    A second Ctrl-C, or SIGINT, ends the workers' wait for their requests.
    """

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        # The supervisor offers no other way to run a server of another class.
        multiprocess.Process = WorkerProcess  # type: ignore[misc]
        super().__init__(config, sockets)
        self._stops_now = threading.Event()

    @override
    def handle_int(self) -> None:
        if self.should_exit.is_set():
            self._stops_now.set()
        super().handle_int()

    @override
    def join_all(self) -> None:
        while not self._stops_now.is_set() and self._join(_POLL_INTERVAL):
            self.handle_signals()
        for process in self._join(0):
            if process.pid is not None:
                os.kill(process.pid, signal.SIGINT)
        for process in self._join(_STOP_NOW_TIMEOUT):
            process.process.kill()
            process.process.join()

    def _join(self, timeout: float) -> list[multiprocess.Process]:
        """Wait up to `timeout` seconds for each worker; return those that still run."""
        for process in self.processes:
            process.process.join(timeout)
        return [process for process in self.processes if process.process.is_alive()]

    @override
    def keep_subprocess_alive(self) -> None:
        before = list(self.processes)
        super().keep_subprocess_alive()
        for old, new in zip(before, self.processes, strict=False):
            if new is not old:
                _log.warning(
                    "worker died and was replaced",
                    pid=old.pid,
                    reason=describe_exit(old.exitcode),
                    new_pid=new.pid,
                )


def describe_exit(code: int | None) -> str:
    """Return the cause of a process's end, such as `SIGKILL` or `exit code 1`."""
    if code is None or code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:  # a real-time signal
        return f"signal {-code}"
