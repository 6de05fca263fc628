"""Processor time and memory of the workers, as procfs has them."""

import os
from pathlib import Path

from maxgate.telemetry.metrics_store import read_process_usage
from maxgate.telemetry.snapshot import ProcessUsage

_TICKS, _PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")


def stat(folder: Path, name: str, *, user: int = 0, system: int = 0, pages: int = 0) -> None:
    """Write one process of a made-up procfs."""
    fields = ["S", *["0"] * 10, str(user), str(system), *["0"] * 8, str(pages), "0"]
    (folder / name).mkdir()
    (folder / name / "stat").write_text(f"1 (a) name (x) {' '.join(fields)}\n")


def test_processes_add_up_and_one_that_has_ended_is_left_out(tmp_path: Path) -> None:
    stat(tmp_path, "self")
    stat(tmp_path, "7", user=3 * _TICKS, system=1 * _TICKS, pages=10)
    stat(tmp_path, "8", user=2 * _TICKS, pages=5)
    assert read_process_usage([7, 8, 9], tmp_path) == ProcessUsage(6.0, 15 * _PAGE)


def test_without_procfs_nothing_is_claimed(tmp_path: Path) -> None:
    assert read_process_usage([7], tmp_path) is None


def test_this_process_has_taken_some_of_both() -> None:
    usage = read_process_usage([os.getpid()])
    assert usage is not None
    assert usage.cpu_seconds > 0
    assert usage.resident_bytes > 1_000_000
