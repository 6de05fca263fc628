"""A spool writes lines durably in groups, and keeps them while there is no room."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from maxgate.usage import spool as spools
from maxgate.usage.folder import delete_moved, list_segments, list_spools, lock_ended, make_folder
from maxgate.usage.spool import Spool, choose_interval
from tests.fakes.waiting import until_holds

MANY = 1024 * 1024 * 1024
LINE = b"x" * 1023 + b"\n"
INVALID = b"invalid"


def encode(lines: Sequence[bytes]) -> bytes:
    """Return lines as they are, if they are valid."""
    if INVALID in lines:
        raise ValueError
    return b"".join(lines)


class Counts:
    """Numbers of lines, and the changes of `is_full`."""

    written = 0
    lost = 0

    def __init__(self) -> None:
        self.full: list[bool] = []

    def add_written(self, lines: int) -> None:
        self.written += lines

    def add_lost(self, lines: int) -> None:
        self.lost += lines


@pytest.fixture
def counts() -> Counts:
    return Counts()


@asynccontextmanager
async def open_spool(
    state_dir: Path, counts: Counts, max_bytes: int = MANY
) -> AsyncIterator[Spool[bytes]]:
    """Open a spool, and close it."""
    folder = make_folder(state_dir)
    spool = Spool(
        folder,
        max_bytes,
        encode=encode,
        on_written=counts.add_written,
        on_lost=counts.add_lost,
        on_full=counts.full.append,
        close_timeout=0.01,
    )
    try:
        yield spool
    finally:
        await spool.aclose()


def read(spool: Path) -> bytes:
    """Return all lines."""
    return b"".join(segment.path.read_bytes() for segment in list_segments(spool))


def append_now(spool: Spool[bytes], line: bytes) -> asyncio.Future[None] | None:
    """Append a line; wait for the future, if there is one."""
    durable = asyncio.get_running_loop().create_future()
    return durable if spool.append(line, partial(durable.set_result, None)) else None


async def append(spool: Spool[bytes]) -> None:
    """Append a line, and wait until it is durable or waits in memory."""
    if (durable := append_now(spool, LINE)) is not None:
        await durable


async def test_durable(tmp_path: Path, counts: Counts) -> None:
    """A line is in the file when its request may end; the file is for this user only."""
    async with open_spool(tmp_path, counts) as spool:
        future = append_now(spool, b"1\n")
        assert future is not None
        assert read(spool.path) == b""
        await future
        assert read(spool.path) == b"1\n"
        [segment] = list_segments(spool.path)
        assert segment.path.stat().st_mode & 0o777 == 0o600
        assert spool.path.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("write_seconds", "interval"),
    [(0.0, 0.01), (0.00005, 0.01), (0.00015, 0.03), (0.00025, 0.05), (1.0, 0.05)],
)
def test_group_interval(write_seconds: float, interval: float) -> None:
    """Groups take 0.5 % of a core at most, unless lines would wait too long."""
    assert choose_interval(write_seconds) == pytest.approx(interval)


async def test_groups(tmp_path: Path, counts: Counts) -> None:
    """Lines that are appended together are written together, in their order."""
    async with open_spool(tmp_path, counts) as spool:
        futures = [append_now(spool, b"%d\n" % number) for number in range(1000)]
        await asyncio.gather(*[future for future in futures if future is not None])
        assert read(spool.path).split() == [b"%d" % number for number in range(1000)]
        await until_holds(lambda: counts.written == 1000)


async def test_nothing_waits(tmp_path: Path, counts: Counts) -> None:
    """A line that no request waits for is written with the others."""
    async with open_spool(tmp_path, counts) as spool:
        assert not spool.append(b"1\n")
        second = append_now(spool, b"2\n")
        assert second is not None
        await second
        assert read(spool.path) == b"1\n2\n"


async def test_encoding_failure(tmp_path: Path, counts: Counts) -> None:
    """A line that cannot be encoded is lost; the others of its group are written."""
    async with open_spool(tmp_path, counts) as spool:
        for line in (b"1\n", INVALID, b"2\n"):
            durable = append_now(spool, line)
        assert durable is not None
        await durable
        assert read(spool.path) == b"1\n2\n"
    assert (counts.written, counts.lost) == (2, 1)


async def test_close(tmp_path: Path, counts: Counts) -> None:
    """The end of a worker writes what is pending, and frees the spool."""
    async with open_spool(tmp_path, counts) as spool:
        spool.append(b"1\n")
        assert lock_ended(spool.path) is None
    assert read(spool.path) == b"1\n"
    assert lock_ended(spool.path) is not None
    assert append_now(spool, b"2\n") is None
    assert counts.lost == 1


async def test_two_workers(tmp_path: Path, counts: Counts) -> None:
    """Each worker has a spool of its own."""
    async with open_spool(tmp_path, counts) as one, open_spool(tmp_path, counts) as other:
        assert list_spools(tmp_path / "usage") == sorted([one.path, other.path])


async def test_no_room(tmp_path: Path, counts: Counts) -> None:
    """Without room, lines wait in memory and requests end; they are written when there is room."""
    async with open_spool(tmp_path, counts, max_bytes=64 * 1024) as spool:
        lines = 0
        while not spool.is_full:
            lines += 1
            await append(spool)
        assert lines == 65
        assert append_now(spool, LINE) is None
        assert len(read(spool.path)) == 64 * 1024

        delete_moved(spool.path, 64 * 1024, is_ended=False)
        await until_holds(lambda: not spool.is_full)
        await append(spool)
        assert read(spool.path) == 3 * LINE
        assert list_segments(spool.path)[-1].end == 67 * 1024
    assert (counts.written, counts.lost, counts.full) == (67, 0, [True, False])


async def test_bound_of_all_workers(tmp_path: Path, counts: Counts) -> None:
    """The lines of all workers of a host count, also those of workers that have ended."""
    async with open_spool(tmp_path, counts) as other:
        await asyncio.gather(*[append(other) for _ in range(64)])
    async with open_spool(tmp_path, counts, max_bytes=64 * 1024) as spool:
        await append(spool)
        assert spool.is_full
        delete_moved(other.path, 64 * 1024, is_ended=True)
        await until_holds(lambda: not spool.is_full)
    assert (counts.written, counts.lost) == (65, 0)


async def test_deleted_spool(tmp_path: Path, counts: Counts) -> None:
    """A spool that somebody deletes counts as full: its lines would be lost unnoticed."""
    async with open_spool(tmp_path, counts) as spool:
        await append(spool)
        list_segments(spool.path)[0].path.unlink()
        await append(spool)
        assert spool.is_full
    assert counts.written == 1


async def test_bound_of_memory(tmp_path: Path, counts: Counts) -> None:
    """Lines that neither disk nor memory has room for are counted."""
    async with open_spool(tmp_path, counts, max_bytes=64 * 1024) as spool:
        line = b"x" * (1024 * 1024)
        for _ in range(20):
            durable = append_now(spool, line)
        assert durable is not None
        await durable
        assert counts.lost == 3
        assert append_now(spool, line) is None
        assert counts.lost == 4


def test_bounds() -> None:
    """The bounds of memory and of a segment are those of the documentation."""
    assert (spools.MAX_PENDING_BYTES, spools.MAX_SEGMENT_BYTES) == (16 * 2**20, 4 * 2**20)
