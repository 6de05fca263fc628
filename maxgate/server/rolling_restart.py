"""The replacement of running workers, one by one."""

import time
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from maxgate.server.control import Command
from maxgate.server.worker import Worker

# A worker loads its tokenizers and probes the engines before it is ready.
_START_TIMEOUT: Final = 120.0

_log = structlog.get_logger("server")


class RollingRestart:
    """Starts a new worker, waits until it is ready, retires the old one, and so on.

    If a new worker does not start, the old ones that are left keep running. `rounds` counts the
    restarts that have ended, and `error` is the reason if the last one failed.
    """

    def __init__(self, start: Callable[[], Worker], end_timeout: float) -> None:
        self.rounds = 0
        self.error: str | None = None
        self._start = start
        self._end_timeout = end_timeout
        self._pending: list[Worker] = []
        self._old: Worker | None = None
        self._new: Worker | None = None
        self._is_running = False

    def add(self, workers: Sequence[Worker]) -> None:
        """Replace these workers, after those that are being replaced already."""
        if not self._is_running:
            self._is_running, self.error = True, None
        taken = {self._old, self._new, *self._pending}
        self._pending += [worker for worker in workers if worker not in taken]

    def is_starting(self, worker: Worker) -> bool:
        """Whether the worker is a new one that is not ready yet."""
        return worker is self._new

    def has_spare(self, workers: Sequence[Worker]) -> bool:
        """Whether a new worker is starting while the one that it replaces still serves."""
        return self._new in workers and self._old in workers

    def step(self, workers: Sequence[Worker]) -> None:
        """Take the next step, if its time has come; `workers` are those that run."""
        if self._new is not None:
            self._watch_start(self._new, workers)
        elif self._old is not None and self._old in workers:
            pass  # it is retiring
        elif self._pending:
            old = self._pending.pop(0)
            if old in workers and not old.ending:
                self._old, self._new = old, self._start()
        elif self._is_running:
            self._is_running = False
            self.rounds += 1

    def _watch_start(self, new: Worker, workers: Sequence[Worker]) -> None:
        if new.ready:
            self._new = None
            if self._old is not None:
                _log.info("worker replaced", pid=self._old.pid, new_pid=new.pid)
                self._old.end(Command.RETIRE, self._end_timeout)
        elif new not in workers or time.monotonic() > new.started_at + _START_TIMEOUT:
            new.end(Command.DRAIN, 0)
            self.error = f"worker {new.pid} did not start"
            _log.error("restart failed, the old workers keep running", error=self.error)
            self._new = self._old = None
            self._pending.clear()
