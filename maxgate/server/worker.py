"""One worker process: its start by the parent, and its entry point."""

import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog
import uvicorn
from starlette.types import ASGIApp

from maxgate.control_plane.worker import SOCKET_VARIABLE
from maxgate.errors import ConfigurationError
from maxgate.net.write_buffer import WriteBuffer
from maxgate.server.control import (
    BLOCKED_SIGNALS,
    Command,
    Report,
    ServingState,
    receive,
    send,
)
from maxgate.server.protocol import GatewayProtocol
from maxgate.server.settings import ServerSettings
from maxgate.server.shutdown import GatewayServer
from maxgate.settings import load_settings

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

# A process of its own program code: an update of maxgate reaches new workers.
_SPAWN: Final = get_context("spawn")

_log = structlog.get_logger("server")


class Worker:
    """A worker process as its parent sees it.

    `ready` and `closed`: it has begun and stopped to accept connections. `terminated`: it got
    SIGTERM. `ending`: it has been told to end. `deadline` is the reading of the monotonic clock at
    which it is killed. `control_path` is the parent's control socket.
    """

    def __init__(
        self, listeners: Sequence[socket.socket], control_path: Path | None = None
    ) -> None:
        self.control, theirs = socket.socketpair()
        self.control.setblocking(False)
        with theirs:
            arguments = (list(listeners), theirs, control_path)
            self._process: SpawnProcess = _SPAWN.Process(target=run_worker, args=arguments)
            signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED_SIGNALS)
            try:
                self._process.start()
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED_SIGNALS)
        self.ready = self.closed = self.ending = self.terminated = False
        self._connected = True
        self.started_at = time.monotonic()
        self.deadline: float | None = None

    @property
    def pid(self) -> int | None:
        """The process id."""
        return self._process.pid

    @property
    def events(self) -> list[int | socket.socket]:
        """Objects that are readable once the process has reported something or ended."""
        sentinel = self._process.sentinel
        return [sentinel, self.control] if self._connected else [sentinel]

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.is_alive()

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.exitcode

    def read_reports(self) -> None:
        """Take in the reports of the worker."""
        codes = receive(self.control) if self._connected else b""
        self._connected = self._connected and codes is not None
        for code in codes or b"":
            report = Report(bytes([code]))
            self.ready = self.ready or report == Report.READY
            self.closed = self.closed or report == Report.CLOSED
            self.terminated = self.terminated or report == Report.TERMINATED

    def end(self, command: Command, timeout: float) -> None:
        """Send RETIRE or DRAIN; the process has `timeout` seconds before it is killed."""
        self.ending = True
        self.deadline = time.monotonic() + timeout
        send(self.control, command)

    def kill_if_late(self) -> None:
        """Kill the process if its time is over."""
        if self.deadline is not None and time.monotonic() > self.deadline and self.is_alive:
            _log.warning("worker did not end in time and was killed", pid=self.pid)
            self._process.kill()
            self._process.join()

    def close(self) -> None:
        """Release the resources of a process that has ended."""
        self._process.join()
        self.control.close()


def run_worker(
    listeners: list[socket.socket], control: socket.socket, control_path: Path | None = None
) -> None:
    """Serve the gateway in this process until the parent commands its end."""
    if control_path is not None:  # for maxgate.asgi
        os.environ[SOCKET_VARIABLE] = str(control_path)
    try:
        server = build_server(control)
    except ConfigurationError as error:
        sys.stderr.write(f"maxgate: {error}\n")
        sys.exit(2)
    server.run(listeners)


def build_server(control: socket.socket) -> GatewayServer:
    """Build the server from the settings of this process.

    Raises ConfigurationError for an invalid setting.
    """
    state = ServingState()
    config = build_config("maxgate.asgi:app", load_settings().server, state)
    return GatewayServer(config, control, state)


def build_config(
    app: ASGIApp | str, settings: ServerSettings, state: ServingState
) -> uvicorn.Config:
    """Build the configuration of a server of `app`, whose connections follow `state`."""
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=partial(  # type: ignore[arg-type]  # uvicorn only calls it
            GatewayProtocol,
            writes=WriteBuffer(),
            state=state,
            request_read_timeout=settings.request_read_timeout,
            write_timeout=settings.write_timeout,
        ),
        proxy_headers=False,  # see api/proxies.py
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=settings.keep_alive_timeout,
        timeout_graceful_shutdown=settings.shutdown_timeout,
    )
