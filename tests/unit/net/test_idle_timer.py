"""The timer fires once, after the last reset, and reuses one event loop timer."""

from maxgate.net.idle_timer import IdleTimer
from tests.fakes.timer_loop import FakeLoop


def start_timer() -> tuple[FakeLoop, IdleTimer, list[float]]:
    """Return a fake loop, a timer on it and the list of times at which the timer fired."""
    loop = FakeLoop()
    fired_at: list[float] = []
    return loop, IdleTimer(loop, lambda: fired_at.append(loop.now)), fired_at


def test_fires_once() -> None:
    """The callback runs once, when the timeout has passed."""
    loop, timer, fired_at = start_timer()
    timer.reset(5)
    loop.advance_to(4.9)
    assert fired_at == []
    loop.advance_to(20)
    assert fired_at == [5]


def test_reset_to_later() -> None:
    """Extending the timeout keeps the event loop timer."""
    loop, timer, fired_at = start_timer()
    for now in range(4):
        loop.advance_to(now)
        timer.reset(5)
    assert len(loop.timers) == 1
    loop.advance_to(20)
    assert fired_at == [8]


def test_reset_to_earlier() -> None:
    """Shortening the timeout takes effect."""
    loop, timer, fired_at = start_timer()
    timer.reset(50)
    timer.reset(3)
    loop.advance_to(60)
    assert fired_at == [3]


def test_cancel() -> None:
    """A cancelled timer does not fire until it is reset."""
    loop, timer, fired_at = start_timer()
    timer.reset(3)
    timer.cancel()
    loop.advance_to(10)
    assert fired_at == []
    timer.reset(3)
    loop.advance_to(20)
    assert fired_at == [13]


def test_close() -> None:
    """A closed timer never fires and leaves no event loop timer behind."""
    loop, timer, fired_at = start_timer()
    timer.reset(3)
    timer.close()
    loop.advance_to(10)
    assert (fired_at, loop.timers[0].cancelled) == ([], True)
