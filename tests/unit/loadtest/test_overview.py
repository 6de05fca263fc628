"""The head of a run, and its progress."""

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from maxgate.loadtest.messages import Progress, Target
from maxgate.loadtest.options import Options
from maxgate.loadtest.overview import describe_run, estimate_seconds, format_seconds
from maxgate.loadtest.progress import LiveScreen

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)


def describe(**fields: Any) -> list[str]:
    """The lines of the head for these options."""
    targets = [Target(url="http://a:1", model="m"), Target(url="http://b:1", model=None)]
    options = Options(**fields)
    shown = targets if options.baseline else targets[:1]
    return describe_run(options, shown, Path("r.json"), now=NOW)


def test_head() -> None:
    """The head names target, scenario, load, time and report."""
    assert describe(scenarios=("short", "long"), concurrency=(1, 8), baseline="http://b:1") == [
        "target    http://a:1, model m",
        "baseline  http://b:1, model not set: the server lists none",
        "scenario  short, long (streamed, max_tokens 32, seed 0)",
        "load      closed loop: concurrency 1, concurrency 8; 15 s each; 4 levels",
        "time      about 1 min 22 s, until 12:01:22; Ctrl-C keeps the results so far",
        "report    r.json",
    ]


def test_head_of_a_file(tmp_path: Path) -> None:
    """The head says that requests of a file may have a limit of their own."""
    (tmp_path / "s.jsonl").touch()
    file = str(tmp_path / "s.jsonl")
    line = f"scenario  {file} (streamed, max_tokens 32 where the file has none, seed 0)"
    assert describe(scenarios=(file,))[1] == line


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"rates": (5.0,), "requests": 20}, "open loop: 5 requests/s; 20 requests"),
        ({"replay": True}, "open loop: replay; the whole recording"),
        ({"sweep": True}, "sweep, closed loop: from concurrency 1 until the server saturates; "),
        ({"duration": 60.0, "requests": 9}, "closed loop: concurrency 8; 1 min or 9 requests"),
    ],
)
def test_load(fields: dict[str, Any], line: str) -> None:
    """The load says what ends each level."""
    assert describe(scenarios=("short",), **fields)[2].startswith(f"load      {line}")


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({"duration": 10.0}, 15.5),
        ({"duration": 10.0, "calibration": 0.0}, 12.5),
        ({"rates": (5.0,), "requests": 20, "warmup": 5}, 10.5),
        ({"requests": 20}, None),
        ({"sweep": True}, None),
        ({"replay": True}, None),
    ],
)
def test_estimate(fields: dict[str, Any], seconds: float | None) -> None:
    """The time is estimated unless the speed of the server decides."""
    assert estimate_seconds(Options(scenarios=("short",), **fields)) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.6, "1 min"),
        (185, "3 min 5 s"),
        (3600, "1 h"),
        (7800, "2 h 10 min"),
        (7199, "2 h"),
    ],
)
def test_format_seconds(seconds: float, text: str) -> None:
    """Durations have at most two units."""
    assert format_seconds(seconds) == text


def test_progress_without_terminal() -> None:
    """A log gets a line per phase and every 30 seconds, whole on any width."""
    file = io.StringIO()
    now = [0.0]
    console = Console(file=file, width=20)
    with LiveScreen(console, lambda: now[0], quiet=False, total=91.0) as screen:
        screen.phase("short, concurrency 8", 60)
        screen.progress(Progress(succeeded=1))
        now[0] = 31.0
        screen.progress(Progress(succeeded=9, failed=1, in_flight=8))
        screen.progress(Progress(succeeded=9))
    assert file.getvalue().splitlines() == [
        "short, concurrency 8 (up to 60 s)",
        "short, concurrency 8: 31 of 60 s, 9 ok, 1 failed, 8 in flight; 1 min left",
    ]
