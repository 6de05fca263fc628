"""The mover stores each line exactly once, whatever is killed, damaged or away."""

import asyncio
import os
from dataclasses import replace
from itertools import islice
from math import inf
from pathlib import Path
from zlib import crc32

import orjson
import pytest

from maxgate.stores.identity import StoreUnavailable
from maxgate.stores.usage import UsageEntry
from maxgate.usage.folder import (
    MAX_READ_BYTES,
    create_segment,
    create_spool,
    list_segments,
    list_spools,
    make_folder,
)
from maxgate.usage.groups import encode_groups
from maxgate.usage.mover import Mover, MoverEvents
from maxgate.usage.settings import UsageSettings
from tests.fakes.clock import FakeClock
from tests.fakes.ledger_store import FakeLedgerStore
from tests.fakes.usage_lines import ENTRY, VALUES
from tests.fakes.waiting import until_holds

DAY = 86_400


def encode(*sequences: int) -> bytes:
    """Encode a group of lines with these numbers."""
    return encode_groups([(sequence, *VALUES[1:]) for sequence in sequences])


class Worker:
    """A spool of a worker, which may be killed."""

    def __init__(self, folder: Path) -> None:
        self.path, self._lock = create_spool(folder)
        self._descriptor = create_segment(self.path, 0)
        self._size = 0

    def write(self, *sequences: int) -> None:
        """Write a group of lines with these numbers."""
        self.write_bytes(encode(*sequences))

    def write_bytes(self, data: bytes) -> None:
        """Write anything."""
        os.write(self._descriptor, data)
        self._size += len(data)

    def begin_segment(self) -> None:
        """Go on in another segment."""
        os.close(self._descriptor)
        self._descriptor = create_segment(self.path, self._size)

    def kill(self) -> None:
        """End without any warning."""
        os.close(self._descriptor)
        os.close(self._lock)


class Host:
    """A folder with spools, and its mover."""

    def __init__(self, state_dir: Path) -> None:
        self.folder = make_folder(state_dir)
        self.store = FakeLedgerStore()
        self.clock = FakeClock()
        self.moved = self.damaged = self.size = 0
        self.mover = self.start_mover()

    def start_mover(self) -> Mover:
        """Return a mover, as of another worker."""
        events = MoverEvents(self._add_moved, self._add_damaged, self._set_size)
        settings = UsageSettings(enabled=True, move_interval=0.05)
        return Mover(self.folder, self.store, settings, self.clock, events)

    def _add_moved(self, lines: int) -> None:
        self.moved += lines

    def _add_damaged(self, lines: int) -> None:
        self.damaged += lines

    def _set_size(self, size: int) -> None:
        self.size = size

    @property
    def sequences(self) -> list[int]:
        """The numbers of the lines in the database."""
        return [entry.sequence for entry in self.store.entries]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def make_entry(worker: Worker, sequence: int) -> UsageEntry:
    """The entry of a line."""
    return replace(ENTRY, spool=worker.path.name, sequence=sequence)


async def test_running_worker(host: Host) -> None:
    """Lines of a running worker are moved as they come; its last segment stays."""
    worker = Worker(host.folder)
    worker.write(1, 2)
    assert await host.mover.move()
    assert host.store.entries == [make_entry(worker, 1), make_entry(worker, 2)]
    worker.write(3)
    worker.begin_segment()
    worker.write(4)
    assert await host.mover.move()
    assert await host.mover.move()
    assert host.sequences == [1, 2, 3, 4]
    [segment] = list_segments(worker.path)
    assert (host.moved, host.damaged, host.size) == (4, 0, segment.end - segment.start)


async def test_killed_worker(host: Host) -> None:
    """Lines of a killed worker are moved, its last part of a line is cut, its spool deleted."""
    worker = Worker(host.folder)
    worker.write(1, 2)
    worker.write_bytes(encode(3)[:-5])
    assert await host.mover.move()
    assert host.sequences == [1, 2]
    worker.kill()
    assert await host.mover.move()
    assert (host.sequences, host.damaged, list_spools(host.folder)) == ([1, 2], 1, [])
    assert await host.mover.move()
    assert host.sequences == [1, 2]


async def test_spool_of_an_earlier_version(host: Host) -> None:
    """Lines that each have a checksum, in segments with another suffix, are moved."""
    worker = Worker(host.folder)
    for sequence in (1, 2):
        data = orjson.dumps((sequence, *VALUES[1:]))
        worker.write_bytes(b"%08x %b\n" % (crc32(data), data))
    worker.kill()
    [segment] = list_segments(worker.path)
    segment.path.rename(segment.path.with_suffix(".log"))
    assert await host.mover.move()
    assert (host.sequences, host.damaged, list_spools(host.folder)) == ([1, 2], 0, [])


async def test_damage(host: Host) -> None:
    """A damaged line is skipped, and so is the rest of a segment that was cut."""
    worker = Worker(host.folder)
    worker.write(1)
    worker.write_bytes(b"\0" * 100 + b"\n")
    worker.write(2)
    worker.write_bytes(b"part")
    worker.begin_segment()
    worker.write(3)
    assert await host.mover.move()
    assert (host.sequences, host.damaged) == ([1, 2, 3], 2)


@pytest.mark.parametrize("first", [(), (1,)])
@pytest.mark.parametrize("size", [-1, 0, 1, 5, MAX_READ_BYTES])
async def test_long_damage(host: Host, first: tuple[int, ...], size: int) -> None:
    """Damaged bytes that are longer than a batch, with and without an end, stop nothing."""
    for end in (b"\n" + encode(2), b""):
        worker = Worker(host.folder)
        worker.write_bytes(encode(*first) if first else b"")
        worker.write_bytes(b"\0" * (MAX_READ_BYTES + size) + end)
        worker.kill()
    assert await host.mover.move()
    assert sorted(host.sequences) == sorted([*first, *first, 2])
    assert host.damaged > 0
    assert list_spools(host.folder) == []


async def test_lost_end(host: Host) -> None:
    """A host that crashed may have lost lines that are in the database already."""
    worker = Worker(host.folder)
    worker.write(1, 2)
    assert await host.mover.move()
    [segment] = list_segments(worker.path)
    os.truncate(segment.path, 10)
    worker.kill()
    assert await host.mover.move()
    assert (host.sequences, host.damaged, list_spools(host.folder)) == ([1, 2], 0, [])


async def test_large_spool(host: Host) -> None:
    """A spool of many segments is moved in several transactions."""
    worker = Worker(host.folder)
    for first in range(0, 3000, 500):
        worker.write(*range(first, first + 500))
        worker.begin_segment()
    worker.kill()
    assert await host.mover.move()
    assert host.sequences == list(range(3000))
    assert host.store.calls > 6
    assert list_spools(host.folder) == []


@pytest.mark.parametrize("groups", [[7], [1] * 7, [3, 1, 3]])
@pytest.mark.parametrize("rejected", [{1}, {4}, {7}, {2, 3, 6}, set(range(1, 8))])
async def test_rejected_lines(host: Host, groups: list[int], rejected: set[int]) -> None:
    """Lines that the database cannot store are kept in a file, and do not stop others."""
    worker = Worker(host.folder)
    numbers = iter(range(1, 8))
    for size in groups:
        worker.write(*islice(numbers, size))
    host.store.rejected = rejected
    assert await host.mover.move()
    assert host.sequences == [number for number in range(1, 8) if number not in rejected]
    assert (host.moved, host.damaged) == (7 - len(rejected), len(rejected))
    spool = worker.path.name.encode()
    kept = b"".join(b"%b %b" % (spool, encode(number)) for number in sorted(rejected))
    assert (host.folder / "rejected.log").read_bytes() == kept
    worker.write(8)
    assert await host.mover.move()
    assert host.sequences[-1] == 8


@pytest.mark.parametrize("calls", range(2, 18))
async def test_end_within_a_group(host: Host, calls: int) -> None:
    """A mover that ends while it isolates lines of a group leaves the rest to the next one."""
    worker = Worker(host.folder)
    worker.write(1, 2)
    worker.write(*range(3, 9))
    worker.write(9)
    host.store.rejected = {5, 7}
    host.store.calls_left = calls
    with pytest.raises(StoreUnavailable):
        await host.mover.move()
    host.mover.stop()
    await host.mover.run()
    host.store.calls_left = inf
    assert await host.start_mover().move()
    assert host.sequences == [1, 2, 3, 4, 6, 8, 9]


async def test_lost_reply(host: Host) -> None:
    """A transaction whose reply was lost is not repeated."""
    worker = Worker(host.folder)
    worker.write(1, 2)
    host.store.loses_reply = True
    with pytest.raises(StoreUnavailable):
        await host.mover.move()
    worker.write(3)
    assert await host.mover.move()
    assert host.sequences == [1, 2, 3]


async def test_two_processes(host: Host) -> None:
    """One process moves; another one takes over when it ends."""
    worker = Worker(host.folder)
    worker.write(1)
    other = host.start_mover()
    assert [await host.mover.move(), await other.move()] == [True, False]
    worker.write(2)
    host.mover.stop()
    await host.mover.run()
    worker.write(3)
    assert [await other.move(), await host.mover.move()] == [True, False]
    assert host.sequences == [1, 2, 3]


async def test_outage(host: Host) -> None:
    """Lines wait while the database is away, and are moved afterwards."""
    worker = Worker(host.folder)
    host.store.is_away = True
    moving = asyncio.create_task(host.mover.run())
    worker.write(1)
    await until_holds(lambda: host.store.calls > 2)
    worker.write(2)
    host.store.is_away = False
    await until_holds(lambda: host.sequences == [1, 2])
    host.mover.stop()
    await moving


async def test_drain_during_outage(host: Host) -> None:
    """The end of a worker does not wait for a database that is away."""
    Worker(host.folder).write(1)
    host.store.is_away = True
    host.mover.stop()
    await host.mover.run()
    host.store.is_away = False
    assert await host.start_mover().move()
    assert host.sequences == [1]


async def test_retention(host: Host) -> None:
    """Old usage is deleted each hour."""
    moving = asyncio.create_task(host.mover.run())
    await until_holds(lambda: len(host.store.dropped) == 4)
    now = int(host.clock.wall())
    assert host.store.dropped == [
        ("entries", now - 90 * DAY),
        ("1m", now - 14 * DAY),
        ("1h", now - 400 * DAY),
        ("1d", now - 3650 * DAY),
    ]
    host.clock.advance(3601)
    await until_holds(lambda: len(host.store.dropped) == 8)
    host.mover.stop()
    await moving
