"""The HPA's algorithm as the simulation has it."""

from benchmarks.autoscaling.autoscaler import Hpa, Rule

SLOW = Rule(window=300, pods=1, period=60)
FAST = Rule(window=0, pods=10, period=60)


def test_tolerance() -> None:
    """A value within 10 % of the target changes nothing; beyond it, the next number is taken."""
    hpa = Hpa(1, 10, FAST, FAST)
    assert [hpa.decide(0, 4, [(value, 10)]) for value in (43.9, 36.1, 44.1, 35.9)] == [4, 4, 5, 4]
    assert hpa.decide(0, 4, [(30, 10)]) == 3


def test_most_demanding_metric() -> None:
    """Of several metrics the highest number counts; one that fails allows no scale-in."""
    hpa = Hpa(1, 10, FAST, FAST)
    assert hpa.decide(0, 2, [(10, 10), (50, 10)]) == 5
    assert hpa.decide(0, 5, [(10, 10), None]) == 5
    assert hpa.decide(0, 5, [(70, 10), None]) == 7
    assert hpa.decide(0, 5, [None, None]) == 5


def test_limits() -> None:
    """Numbers stay within the bounds, and a policy limits the change of a period."""
    hpa = Hpa(2, 6, Rule(window=0, pods=2, period=60), FAST)
    assert hpa.decide(0, 2, [(90, 10)]) == 4
    assert hpa.decide(15, 4, [(90, 10)]) == 4
    assert hpa.decide(60, 4, [(90, 10)]) == 6
    assert hpa.decide(75, 6, [(0, 10)]) == 2


def test_stabilization() -> None:
    """A scale-in waits until the highest recommendation of its window is lower."""
    hpa = Hpa(1, 10, FAST, SLOW)
    assert hpa.decide(0, 3, [(30, 10)]) == 3
    assert [hpa.decide(at, 3, [(0, 10)]) for at in (15, 299, 300)] == [3, 3, 2]
