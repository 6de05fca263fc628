"""What was set last counts, and one timer serves all."""

from maxgate.net.idle_timer import IdleTimer
from tests.fakes.timer_loop import FakeLoop


def test_it_passes_once_when_its_time_is_over() -> None:
    loop, passed = FakeLoop(), [0]
    deadline = IdleTimer(loop, lambda: passed.append(1))
    deadline.set(5)
    loop.go_to(4.9)
    assert passed == [0]
    loop.go_to(20)
    assert passed == [0, 1]


def test_moving_it_on_keeps_the_timer() -> None:
    loop = FakeLoop()
    passed_at: list[float] = []
    deadline = IdleTimer(loop, lambda: passed_at.append(loop.now))
    for now in range(4):
        loop.go_to(now)
        deadline.set(5)
    assert len(loop.timers) == 1
    loop.go_to(20)
    assert passed_at == [8]


def test_moving_it_nearer_counts_too() -> None:
    loop = FakeLoop()
    passed_at: list[float] = []
    deadline = IdleTimer(loop, lambda: passed_at.append(loop.now))
    deadline.set(50)
    deadline.set(3)
    loop.go_to(60)
    assert passed_at == [3]


def test_one_that_is_cleared_may_be_set_again() -> None:
    loop = FakeLoop()
    passed_at: list[float] = []
    deadline = IdleTimer(loop, lambda: passed_at.append(loop.now))
    deadline.set(3)
    deadline.clear()
    loop.go_to(10)
    assert passed_at == []
    deadline.set(3)
    loop.go_to(20)
    assert passed_at == [13]


def test_one_that_is_closed_never_passes() -> None:
    loop, passed = FakeLoop(), [0]
    deadline = IdleTimer(loop, lambda: passed.append(1))
    deadline.set(3)
    deadline.close()
    loop.go_to(10)
    assert (passed, loop.timers[0].cancelled) == ([0], True)
