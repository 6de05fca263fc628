"""The parent process: it owns the listening socket and keeps the worker processes running."""

import signal
import socket
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Final

import structlog

from maxgate.errors import NoWorker
from maxgate.server.backlog import BacklogRefuser
from maxgate.server.control import Command
from maxgate.server.rolling_restart import RollingRestart
from maxgate.server.shutdown import describe_exit
from maxgate.server.signals import SignalQueue
from maxgate.server.worker import Worker

# Seconds that a worker has beyond `shutdown_timeout`, and after a second Ctrl-C, to end itself.
_END_TIMEOUT: Final = 10.0
_STOP_TIMEOUT: Final = 5.0
_TICK: Final = 0.5
# A worker that ends sooner than this after its start counts as a failed start.
_MIN_LIFETIME: Final = 10.0
_MAX_RESTART_DELAY: Final = 5.0

_log = structlog.get_logger("server")


class Parent:
    """Runs `count` workers that accept connections from `listeners`.

    A worker that dies is replaced. SIGUSR2 replaces all workers, and SIGTERM to a worker replaces
    that one, without losing a request. SIGTERM, SIGINT and SIGQUIT end the workers; a second SIGINT
    or SIGQUIT ends their wait for requests. `on_step` is called with this object after every
    event.

    `control_path` is the socket over which workers get the list of engines. `on_reload` is called
    to read the configuration again: on SIGHUP, and on SIGUSR2 with True, because the new workers
    read all settings.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        count: int,
        shutdown_timeout: float,
        on_step: "Callable[[Parent], None]" = lambda _: None,
        control_path: Path | None = None,
    ) -> None:
        end_timeout = shutdown_timeout + _END_TIMEOUT
        self.workers: list[Worker] = []
        self.restart = RollingRestart(self._start, end_timeout)
        self._listeners = listeners
        self._count = count
        self._end_timeout = end_timeout
        self._signals = SignalQueue()
        self._on_step = on_step
        self._control_path = control_path
        self.on_reload: Callable[[bool], None] | None = None
        self._died: list[Worker] = []
        self._refusers = [BacklogRefuser(listener, NoWorker()) for listener in listeners]
        self._start_failed = False
        self._failed_starts = 0
        self._next_start = 0.0
        self._stopping = False

    def stop(self) -> None:
        """Shut down as on SIGTERM; works from any thread, and before `run`."""
        self._signals.put(signal.SIGTERM)

    def list_serving(self) -> list[int]:
        """Return the process ids of the workers that serve and stay."""
        workers = list(self.workers)  # another thread may read it
        return [one.pid for one in workers if one.pid and one.ready and not one.ending]

    def run(self) -> int:
        """Serve until a signal or `stop`.

        Returns 0, or the exit code of the first worker if that could not start.
        """
        with self._signals.handled():
            first = self._start()  # alone: if it cannot start, its error is printed once
            while not self._stopping:
                self._wait_or_refuse()
                self._reap()
                if first not in self.workers and not first.ready and not self._stopping:
                    return max(first.exit_code or 1, 1)
                if first.ready and not self._stopping:
                    self._keep_running()
                self._on_step(self)
            self._drain()
        return 0

    def _start(self) -> Worker:
        worker = Worker(self._listeners, self._control_path)
        self.workers.append(worker)
        return worker

    def _wait_or_refuse(self) -> None:
        """Wait for an event; if workers fail to start and none serves, refuse connections."""
        if self._start_failed and not self.list_serving():
            self._wait(*self._listeners)
            for refuser in self._refusers:
                refuser.refuse()
        else:
            self._wait()

    def _wait(self, *also: socket.socket) -> None:
        """Wait for an event; take in signals and reports."""
        events = [event for worker in self.workers for event in worker.events]
        wait([self._signals.socket, *also, *events], _TICK)
        for worker in self.workers:
            worker.read_reports()
            worker.kill_if_late()
        for number in self._signals.take():
            self._handle(number)

    def _handle(self, number: signal.Signals) -> None:
        if number == signal.SIGUSR2:
            if self.on_reload is not None:
                self.on_reload(True)
            self.restart.add(self.workers)
        elif number in {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT} or (
            number == signal.SIGHUP and self._signals.terminal_is_gone()
        ):
            if self._stopping and number != signal.SIGTERM:
                for worker in self.workers:
                    worker.end(Command.STOP, _STOP_TIMEOUT)
            self._stopping = True
        elif number == signal.SIGHUP and self.on_reload is not None:
            self.on_reload(False)
        else:
            _log.info(f"{number.name} ignored; `maxgate restart` replaces the workers")

    def _reap(self) -> None:
        """Remove the workers that have ended."""
        for worker in [worker for worker in self.workers if not worker.is_alive]:
            self.workers.remove(worker)
            worker.close()
            if worker.ending or self.restart.is_starting(worker):
                continue
            self._start_failed = not worker.ready
            is_short = time.monotonic() < worker.started_at + _MIN_LIFETIME
            self._failed_starts = self._failed_starts + 1 if is_short else 0
            delay = min(0.1 * 2**self._failed_starts, _MAX_RESTART_DELAY) if is_short else 0
            self._next_start = time.monotonic() + delay
            self._died.append(worker)

    def _keep_running(self) -> None:
        """Replace the workers that have died or got SIGTERM, and go on with a restart."""
        if terminated := [worker for worker in self.workers if worker.terminated]:
            self.restart.add([worker for worker in terminated if not worker.ending])
        serving = sum(not worker.ending for worker in self.workers)
        serving -= self.restart.has_spare(self.workers)
        if serving < self._count and time.monotonic() >= self._next_start:
            worker = self._start()
            if self._died:
                died = self._died.pop(0)
                _log.warning(
                    "worker died and was replaced",
                    pid=died.pid,
                    reason=describe_exit(died.exit_code),
                    new_pid=worker.pid,
                )
        self.restart.step(self.workers)

    def _drain(self) -> None:
        """End all workers; clients that connect meanwhile get a 503."""
        for worker in self.workers:
            worker.end(Command.DRAIN, self._end_timeout)
        refusers = [BacklogRefuser(listener) for listener in self._listeners]
        while self.workers:
            if all(worker.closed for worker in self.workers):
                self._wait(*self._listeners)
                for refuser in refusers:
                    refuser.refuse()
            else:
                self._wait()
            self._reap()
        for refuser in refusers:
            refuser.close()
