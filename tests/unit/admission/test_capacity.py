"""The number of slots follows what engines can do, and their own queue."""

from maxgate.admission.capacity import (
    MIN_SLOTS,
    UNLIMITED,
    AdaptiveLimit,
    EngineLoad,
    add_spare,
    remove_spare,
)

ENGINE = EngineLoad(engines=1)


class SimulatedEngine:
    """An engine that works on `batch` requests of 50 tokens at a time, and queues the rest."""

    def __init__(self, batch: int, seconds: float, *, slower_by: float = 0.0) -> None:
        self.limit = AdaptiveLimit(estimates=True)
        self.now = 0.0
        self._batch = batch
        self._seconds = seconds
        self._slower_by = slower_by

    def run(self, seconds: float, in_use: int, waiting: int, *, reports: bool = False) -> int:
        """Keep as many requests at the engine as there are slots; returns the last limit."""
        slots = in_use
        for _ in range(int(seconds / 0.25)):
            running = min(slots, self._batch)
            service = self._seconds * (1 + self._slower_by * (running - 1))
            rate = running / service
            done = rate * 0.25
            self.limit.responses += max(int(done), 1)
            self.limit.tokens += int(50 * done)
            self.limit.seconds += done * slots / rate
            self.now += 0.25
            load = EngineLoad(1, running, slots - running) if reports else ENGINE
            limit = self.limit.update(self.now, load, is_full=waiting > 0, waiting=waiting)
            slots = min(in_use, limit)
        return limit


def test_no_responses() -> None:
    """Without any response there is no limit."""
    assert AdaptiveLimit(estimates=True).update(1.0, ENGINE, is_full=False, waiting=0) == UNLIMITED


def test_no_queue() -> None:
    """An engine that serves all requests at the same speed is not limited."""
    engine = SimulatedEngine(batch=256, seconds=2.0)
    assert engine.run(60, in_use=200, waiting=0) >= 400


def test_larger_batches() -> None:
    """An engine that is three times as slow with a full batch keeps it."""
    engine = SimulatedEngine(batch=64, seconds=1.0, slower_by=2 / 63)
    engine.run(30, in_use=2, waiting=0)
    assert engine.run(30, in_use=64, waiting=0) >= 64


def test_overload() -> None:
    """With ten times the load, an engine with four slots gets little more than a few requests."""
    engine = SimulatedEngine(batch=4, seconds=0.2)
    engine.run(10, in_use=2, waiting=0)
    assert engine.run(10, in_use=200, waiting=100) <= MIN_SLOTS


def test_overload_from_the_start() -> None:
    """An engine that was never seen without a queue is probed with fewer requests."""
    engine = SimulatedEngine(batch=4, seconds=0.2)
    first = engine.run(2, in_use=200, waiting=100)
    assert engine.run(120, in_use=200, waiting=100) < first


def test_reported_queue() -> None:
    """Engines that report a queue get what they work on, and a few more."""
    engine = SimulatedEngine(batch=4, seconds=0.2)
    assert engine.run(1, in_use=200, waiting=100, reports=True) in {5, 6}


def test_reported_growth() -> None:
    """The limit grows once a second while requests wait and no queue is reported."""
    limit = AdaptiveLimit(estimates=True)
    assert limit.update(1.0, EngineLoad(1, 4, 50), is_full=False, waiting=0) == add_spare(4)
    load = EngineLoad(1, 5, 0)
    values = [limit.update(at, load, is_full=True, waiting=9) for at in (2.0, 2.25, 2.75, 3.0)]
    assert values == [6, 6, 6, 7]


def test_failed_growth() -> None:
    """While growth leads to a queue, the limit grows ever more rarely, at least every 8 seconds."""
    limit, slots, grown_at = AdaptiveLimit(), 20, list[int]()
    for second in range(60):
        load, before = EngineLoad(1, 4, slots - 4), slots
        slots = limit.update(float(second), load, is_full=True, waiting=9)
        if slots > before:
            grown_at.append(second)
    assert grown_at == [1, 3, 7, 15, 23, 31, 39, 47, 55]


def test_growth_of_shared_slots() -> None:
    """The limit grows when engines are busy, even if this process has free slots."""
    limit = AdaptiveLimit()
    limit.update(1.0, EngineLoad(1, 4, 50), is_full=False, waiting=0)
    assert limit.update(2.0, EngineLoad(1, 4, 0), is_full=False, waiting=0) == 6
    assert limit.update(3.0, EngineLoad(1, 4, 0), is_full=False, waiting=0) == 6


def test_growth_with_reserved_slots() -> None:
    """While slots are kept free, the limit grows to what engines have worked on, and no more."""
    limit = AdaptiveLimit()
    limit.update(1.0, EngineLoad(1, 8, 50), is_full=False, waiting=0)
    limit.update(2.0, EngineLoad(1, 4, 2), is_full=False, waiting=0)
    values = [
        limit.update(at, EngineLoad(1, 3, 0), is_full=False, waiting=9)
        for at in (3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
    ]
    assert values == [6, 7, 9, 9, 9, 9]
    assert limit.batch == 8


def test_spare() -> None:
    """Spare slots can be added and taken away again."""
    assert all(remove_spare(add_spare(slots)) == slots for slots in range(1, 1000))


def test_limit_of_another_process() -> None:
    """A process that has seen no queue follows the limit of another one, as long as it can."""
    limit = AdaptiveLimit()
    limit.adopt(9)
    load = EngineLoad(1, 8, 0)
    assert [limit.update(at, load, is_full=True, waiting=9) for at in (1.0, 2.0)] == [11, 14]
    limit.adopt(9)
    assert limit.update(3.0, EngineLoad(1, 8, 5), is_full=True, waiting=9) == 9
    assert limit.update(4.0, ENGINE, is_full=True, waiting=9) == UNLIMITED


def test_stale_metrics() -> None:
    """Without fresh metrics, the limit by the engine's queue no longer applies."""
    limit = AdaptiveLimit(estimates=True)
    limit.update(1.0, EngineLoad(1, 4, 50), is_full=False, waiting=0)
    assert limit.update(2.0, ENGINE, is_full=True, waiting=9) == UNLIMITED


def test_no_estimate() -> None:
    """Without estimates and metrics there is no limit."""
    engine = SimulatedEngine(batch=4, seconds=0.2)
    engine.limit = AdaptiveLimit()
    assert engine.run(10, in_use=200, waiting=100) == UNLIMITED
