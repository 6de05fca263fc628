"""Running MAX as a local process."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from maxgate.errors import EngineError


class ProcessLauncher:
    """Starts a command in its own process group."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        log_file: Path,
        *,
        port: int,
        memory_gb: float | None,
        stop_timeout: float,
    ) -> None:
        self.command = command
        self._environment = environment
        self._port = port
        self._memory_gb = memory_gb
        self._stop_timeout = stop_timeout
        self.log_file = log_file

    async def start(self) -> "EngineProcess":
        """Start the command.

        Raises EngineError if the port is in use or the memory too small for the model.
        """
        self.log_file.unlink(missing_ok=True)  # an old log would explain a failure wrongly
        _check_port(self._port)
        _check_memory(self._memory_gb)
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                # The supervisor stops MAX; this covers the supervisor's own sudden death.
                *(sys.executable, "-m", "maxgate.engine.parent_death"),
                *self.command,
                env={**os.environ, **self._environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return EngineProcess(process, self._stop_timeout)


class EngineProcess:
    """A started process and its group: MAX's three processes, of which workers can outlive it."""

    def __init__(self, process: asyncio.subprocess.Process, stop_timeout: float) -> None:
        self._process = process
        self._stop_timeout = stop_timeout

    async def wait(self) -> int:
        """Wait for the process to exit and return its exit code."""
        return await self._process.wait()

    async def stop(self) -> None:
        """Terminate the group, and kill it after the stop timeout."""
        if self._process.returncode is None:
            self._signal_group(signal.SIGTERM)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), self._stop_timeout)
        self._signal_group(signal.SIGKILL)
        await self._process.wait()

    def _signal_group(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def _check_port(port: int) -> None:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        raise EngineError(
            f"the engine's port {port} is in use by another process; stop that process or choose "
            "another port with --engine-url"
        ) from error


def _check_memory(needed_gb: float | None) -> None:
    try:
        import psutil  # noqa: PLC0415  # an extra, not part of the base install
    except ImportError:  # without the check, MAX itself fails, only later
        return
    available = psutil.virtual_memory().available / 1e9
    if needed_gb is not None and available < needed_gb:
        raise EngineError(
            f"too little memory: the model needs about {needed_gb:g} GB, "
            f"{available:.1f} GB are available"
        )
