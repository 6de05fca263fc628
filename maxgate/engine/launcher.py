"""What starts an engine, and what a started engine can do. Two kinds: process and container."""

from pathlib import Path
from typing import Protocol


class RunningEngine(Protocol):
    """An engine that was started and may have ended since."""

    async def wait(self) -> int:
        """Its exit code, once it ends; negative for a signal, as in `subprocess`."""
        ...

    async def stop(self) -> None:
        """End it and everything it started; does nothing where it has ended."""
        ...


class Launcher(Protocol):
    """Starts one engine again and again."""

    log_file: Path
    """Where the engine's output goes; written anew at every start."""

    async def start(self) -> RunningEngine:
        """Start it; it is not ready yet.

        Raises EngineError or ConfigurationError where it cannot even be started.
        """
        ...


def read_tail(file: Path, size: int = 65536) -> str:
    """The end of a log file, or nothing where there is none."""
    try:
        with file.open("rb") as log:
            log.seek(max(0, file.stat().st_size - size))
            return log.read().decode(errors="replace")
    except OSError:
        return ""
