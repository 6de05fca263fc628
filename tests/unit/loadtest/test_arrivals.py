"""Requests leave when the seed says, at the rate that was asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from maxgate.loadtest.arrivals import plan_departures, plan_ramp, split_evenly


@pytest.mark.parametrize("rate", [0.5, 20, 2000])
@pytest.mark.parametrize("seed", range(5))
def test_poisson_arrivals_pass_a_kolmogorov_smirnov_test(rate: float, seed: int) -> None:
    offsets = plan_departures("poisson", rate, count=2000, duration=None, seed=seed)
    gaps = np.diff(offsets)
    assert stats.kstest(gaps, "expon", args=(0, 1 / rate)).pvalue > 0.01
    assert abs(stats.pearsonr(gaps[1:], gaps[:-1]).statistic) < 0.08


def test_the_same_seed_is_the_same_schedule_and_another_is_not() -> None:
    first, again, other = (
        plan_departures("poisson", 10, count=50, duration=None, seed=seed) for seed in (1, 1, 2)
    )
    assert first.tolist() == again.tolist() != other.tolist()


def test_a_constant_rate_leaves_at_absolute_times() -> None:
    found = plan_departures("constant", 4, count=None, duration=1.0, seed=0)
    assert found.tolist() == [0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize("kind", ["constant", "poisson", "ramp"])
def test_a_duration_is_filled_to_its_end(kind: str) -> None:
    found = plan_departures(kind, 100, count=None, duration=20.0, seed=3)  # type: ignore[arg-type]
    assert 19.5 < found[-1] < 20.0
    assert (np.diff(found) >= 0).all()


def test_a_ramp_rises_evenly_and_stays() -> None:
    """From 10 to 100 a second within 2 s are 110 departures, then 100 a second."""
    found = plan_ramp(10, 100, 2.0, 311)
    per_second, _ = np.histogram(found, [0, 1, 2, 3, 4.001])
    assert per_second.tolist() == pytest.approx([32.5, 77.5, 100, 100], abs=1)


@given(st.integers(0, 1000), st.integers(1, 64))
def test_shares_add_up_and_differ_by_one_at_most(total: int, shards: int) -> None:
    shares = [split_evenly(total, shard, shards) for shard in range(shards)]
    assert (sum(shares), max(shares) - min(shares) <= 1) == (total, True)
