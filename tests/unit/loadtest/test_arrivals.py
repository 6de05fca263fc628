"""Departure schedules."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from maxgate.loadtest.arrivals import plan_departures, plan_ramp, plan_replay, split_evenly


@pytest.mark.parametrize("rate", [0.5, 20, 2000])
@pytest.mark.parametrize("seed", range(5))
def test_poisson(rate: float, seed: int) -> None:
    """Gaps are exponential (Kolmogorov-Smirnov test) and uncorrelated."""
    offsets = plan_departures("poisson", rate, count=2000, duration=None, seed=seed)
    gaps = np.diff(offsets)
    assert stats.kstest(gaps, "expon", args=(0, 1 / rate)).pvalue > 0.01
    assert abs(stats.pearsonr(gaps[1:], gaps[:-1]).statistic) < 0.08


def test_seed() -> None:
    """The seed determines the schedule."""
    first, again, other = (
        plan_departures("poisson", 10, count=50, duration=None, seed=seed) for seed in (1, 1, 2)
    )
    assert first.tolist() == again.tolist() != other.tolist()


def test_constant_rate() -> None:
    """A constant rate is evenly spaced from the start."""
    found = plan_departures("constant", 4, count=None, duration=1.0, seed=0)
    assert found.tolist() == [0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize("kind", ["constant", "poisson", "ramp"])
def test_duration(kind: str) -> None:
    """Departures fill the duration to its end."""
    found = plan_departures(kind, 100, count=None, duration=20.0, seed=3)  # type: ignore[arg-type]
    assert 19.5 < found[-1] < 20.0
    assert (np.diff(found) >= 0).all()


def test_ramp() -> None:
    """From 10 to 100 per second in 2 s are 110 departures, then 100 per second."""
    found = plan_ramp(10, 100, 2.0, 311)
    per_second, _ = np.histogram(found, [0, 1, 2, 3, 4.001])
    assert per_second.tolist() == pytest.approx([32.5, 77.5, 100, 100], abs=1)


@given(st.integers(0, 1000), st.integers(1, 64))
def test_split_evenly(total: int, shards: int) -> None:
    """Shards add up to the total and differ by at most one."""
    shares = [split_evenly(total, shard, shards) for shard in range(shards)]
    assert (sum(shares), max(shares) - min(shares) <= 1) == (total, True)


@pytest.mark.parametrize(
    ("count", "duration", "expected"),
    [
        (None, None, [0, 0, 1, 1, 2, 2]),
        (2, None, [0, 0, 1, 1]),
        (None, 2.0, [0, 0, 1, 1]),
        (3, 1.0, [0, 0]),
    ],
)
def test_replay(count: int | None, duration: float | None, expected: list[float]) -> None:
    """A replay ends after a number of requests or a duration at its speed, for each side."""
    found = plan_replay([0.0, 4.0, 8.0], speed=4, sides=2, count=count, duration=duration)
    assert list(found) == expected
