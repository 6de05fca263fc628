"""A batch ends by itself, and at once before a decision."""

from collections.abc import Iterator

import pytest

from maxgate.limits.batch import BATCH_SECONDS, Batch
from maxgate.limits.entries import Amounts, Entries
from tests.fakes.clock import FakeClock
from tests.fakes.timer_loop import VirtualTimeLoop


class Bench:
    """A batch in a loop whose time the test advances, and the callers that it has settled."""

    def __init__(self) -> None:
        self.loop = VirtualTimeLoop()
        self.settled: list[Entries] = []
        self.batch = Batch(self.settle, FakeClock())

    def settle(self, entries: Entries, amounts: Amounts, used: Amounts) -> None:
        """Note that the requests of a caller are settled."""
        assert (amounts[1], used[1]) == (30, 20)
        self.settled.append(entries)

    def add(self, callers: int) -> list[Entries]:
        """End one request of each of so many callers."""
        entries = [Entries([], is_batched=True) for _ in range(callers)]

        async def add() -> None:
            for one in entries:
                self.batch.add(one)
                one.ended, one.used_tokens, one.unused_tokens = 1, 20, 10

        self.loop.run_until_complete(add())
        return entries


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.loop.close()


def test_end(bench: Bench) -> None:
    """All callers of a batch end when its time is over, in the order of their first requests."""
    callers = bench.add(200)
    bench.loop.advance(BATCH_SECONDS * 0.9)
    assert bench.settled == []
    bench.loop.advance(BATCH_SECONDS * 0.2)
    assert bench.settled == callers
    assert not bench.batch.end()


def test_parts(bench: Bench) -> None:
    """Each iteration of the event loop ends a part of a large batch; new callers wait."""
    callers, during = bench.add(200), list[int]()

    def watch() -> None:
        during.append(len(bench.settled))
        if len(during) < 5:
            bench.loop.call_soon(watch)

    bench.loop.call_at(bench.loop.now + BATCH_SECONDS, watch)
    bench.loop.advance(BATCH_SECONDS)
    assert during == [64, 128, 192, 200, 200]
    later = bench.add(1)
    assert bench.settled == callers
    bench.loop.advance(BATCH_SECONDS)
    assert bench.settled == callers + later


def test_early_end(bench: Bench) -> None:
    """A batch that was ended before its time does not end twice, and the next one has its own."""
    first = bench.add(3)
    bench.loop.advance(BATCH_SECONDS / 2)
    bench.batch.end()
    assert bench.settled == first
    second = bench.add(2)
    bench.loop.advance(BATCH_SECONDS * 0.9)
    assert bench.settled == first
    bench.loop.advance(BATCH_SECONDS * 0.2)
    assert bench.settled == first + second


def test_failure(bench: Bench) -> None:
    """A caller whose settlement fails keeps no other caller from its own."""
    first, broken, last = bench.add(3)
    broken.used_tokens = 1  # the bench refuses it
    bench.batch.end()
    assert bench.settled == [first, last]
