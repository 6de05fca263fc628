"""The file of counters survives damage, full tables, stopped processes and deletion."""

import fcntl
import os
from pathlib import Path

import pytest

from maxgate.limits import file_table
from maxgate.limits.file_table import MAX_HOLDERS, FileTable
from maxgate.limits.table import LEASE_SECONDS, CountersUnavailable, Report, State, create_holder
from tests.fakes.clock import FakeClock

FILE = "limits.counters"


def report(key: str = "a", used: int = 0, held: int = 0, ends_at: float = 3e9) -> Report:
    return Report(key, ends_at, 100, used, held, 0, charges=False)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def table(tmp_path: Path, clock: FakeClock) -> FileTable:
    return FileTable(tmp_path, clock=clock)


def test_many_counters(table: FileTable, tmp_path: Path, clock: FakeClock) -> None:
    """Counters are told apart, also in one exchange, and each process sees those of others."""
    keys = [str(number) for number in range(200)]
    reports = [report(key, used=number) for number, key in enumerate(keys)]
    table.exchange_now(create_holder(), reports, ())
    other = FileTable(tmp_path, clock=clock)
    reply = other.exchange_now(create_holder(), [report(key) for key in keys], ())
    assert reply.states == [State(0, number) for number in range(200)]
    assert reply.holders == 2


def test_no_room(table: FileTable, monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> None:
    """A full table refuses further counters until windows have ended."""
    monkeypatch.setattr(file_table, "_ROWS", 8)
    monkeypatch.setattr(file_table, "_MAX_PROBES", 8)
    holder, end = create_holder(), clock.wall() + 1
    for number in range(8):
        table.exchange_now(holder, [report(str(number), ends_at=end)], ())
    with pytest.raises(CountersUnavailable, match="has no room"):
        table.exchange_now(holder, [report("new")], ())
    clock.advance(62)
    table.exchange_now(holder, [report("new", used=3)], ())
    assert table.exchange_now(create_holder(), [report("new")], ()).states == [State(0, 3)]


def test_many_holders(table: FileTable, clock: FakeClock) -> None:
    """Further processes get the places of those whose lease has ended."""
    for _ in range(MAX_HOLDERS):
        table.exchange_now(create_holder(), [report(held=1)], ())
    with pytest.raises(CountersUnavailable, match="more than 64 processes"):
        table.exchange_now(create_holder(), [report()], ())
    clock.advance(LEASE_SECONDS)
    assert table.exchange_now(create_holder(), [report()], ()).states == [State(0, 0)]


@pytest.mark.parametrize("damage", [b"", b"x" * 100_000, b"mglimit1"])
def test_damage(table: FileTable, tmp_path: Path, clock: FakeClock, damage: bytes) -> None:
    """A damaged file is another table, to which processes report again."""
    holder = create_holder()
    birth = table.exchange_now(holder, [report(used=5)], ()).birth
    (tmp_path / FILE).write_bytes(damage)
    assert table.exchange_now(holder, [report(used=6)], (), birth).states == ()
    reply = table.exchange_now(holder, [report(used=6)], ())
    assert reply.birth != birth
    assert FileTable(tmp_path, clock=clock).exchange_now(
        create_holder(), [report()], ()
    ).states == [State(0, 6)]


def test_stopped_process(table: FileTable, tmp_path: Path) -> None:
    """A process that was stopped while it holds the lock delays one exchange a second."""
    table.exchange_now(create_holder(), [report()], ())
    descriptor = os.open(tmp_path / FILE, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    for _ in range(2):
        with pytest.raises(CountersUnavailable, match="another process keeps the lock"):
            table.exchange_now(create_holder(), [report()], ())
    os.close(descriptor)
    table.exchange_now(create_holder(), [report()], ())


def test_no_folder(tmp_path: Path) -> None:
    """A folder that cannot be created makes the counters unavailable."""
    (tmp_path / "file").touch()
    table = FileTable(tmp_path / "file" / "folder")
    with pytest.raises(CountersUnavailable, match="Not a directory"):
        table.exchange_now(create_holder(), [report()], ())
