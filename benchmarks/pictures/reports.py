"""Load tests of simulated engines, whose reports the pictures show."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.pictures.engine import build_command
from benchmarks.stack import ROOT, find_free_port, wait_for

_START_SECONDS: Final = 30


@dataclass(frozen=True)
class Load:
    """A load test: levels of concurrency, for some seconds each, of an engine with these values."""

    label: str
    levels: tuple[int, ...]
    seconds: int
    step_ms: float = 6.5
    max_batch: int = 16

    @property
    def file_name(self) -> str:
        """Name of the report: the label and the number of levels."""
        return f"{self.label.replace(' ', '-')}-{len(self.levels)}.json"


_FIVE: Final = (1, 2, 4, 8, 16)
ONE_LEVEL: Final = Load("baseline", (8,), 20)
FIVE_LEVELS: Final = Load("baseline", _FIVE, 15)
FIFTEEN_LEVELS: Final = Load("baseline", (1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32), 7)
THREE_RUNS: Final = (
    FIVE_LEVELS,
    Load("new kernel", _FIVE, 15, step_ms=4.5),
    Load("batch of 6", _FIVE, 15, max_batch=6),
)
TWELVE_RUNS: Final = tuple(
    Load(f"batch {batch}, {step} ms", (1, 4, 16), 5, step_ms=step, max_batch=batch)
    for batch in (4, 8, 16)
    for step in (5, 7, 9, 11)
)


def measure(load: Load, folder: Path) -> Path:
    """Path of the report; runs the load test unless the folder has it."""
    path = folder / load.file_name
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with _run_engine(load) as url:
        subprocess.run(
            [
                sys.executable,
                str(ROOT / "load_test.py"),
                url,
                "--scenario=short",
                f"--concurrency={','.join(map(str, load.levels))}",
                f"--duration={load.seconds}s",
                f"--output={path}",
            ],
            check=True,
        )
    return path


@contextmanager
def _run_engine(load: Load) -> Iterator[str]:
    port = find_free_port()
    command = build_command(port, load.max_batch, load.step_ms)
    with subprocess.Popen(command) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/v1/models", timeout=_START_SECONDS, process=process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
