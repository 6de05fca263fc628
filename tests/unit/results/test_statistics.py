"""Percentiles are values that were measured; intervals hold the truth as often as they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxgate.results.statistics import (
    bootstrap,
    bootstrap_interval,
    curve,
    percentile,
    percentiles,
    percentiles_including_failures,
    row_means,
    row_percentile,
)

TIMES = st.lists(st.floats(0, 1e4), min_size=1, max_size=300)


@given(TIMES, st.floats(0.1, 100))
def test_a_percentile_is_what_numpy_calls_inverted_cdf(times: list[float], percent: float) -> None:
    ordered = np.sort(np.array(times))
    rank = len(times) * percent / 100
    # Right at a step the two roundings may differ; anywhere else they agree.
    if abs(rank - round(rank)) > 1e-6:
        expected = np.percentile(ordered, percent, method="inverted_cdf")
        assert percentile(ordered, percent) == expected


def test_the_99th_of_1_to_100_is_99() -> None:
    assert percentile(np.arange(1.0, 101.0), 99) == 99


def test_a_percentile_needs_a_value_beyond_it() -> None:
    assert percentiles(np.arange(1.0, 100.0)) == {
        "50": 50,
        "90": 90,
        "95": 95,
        "99": None,
        "99.9": None,
    }


def test_nothing_has_no_percentile() -> None:
    assert (percentile(np.empty(0), 50), curve(np.empty(0))) == (None, [])


def test_a_failure_is_slower_than_everything() -> None:
    """70 answers and 30 instant refusals: half were fast, and no 95th was ever reached."""
    ordered = np.linspace(0.1, 0.2, 70)
    found = percentiles_including_failures(ordered, 30)
    assert found == {"50": pytest.approx(ordered[49]), "90": None, "95": None, "99": None}


@given(TIMES)
def test_the_curve_never_falls(times: list[float]) -> None:
    points = curve(np.sort(np.array(times)))
    assert points == sorted(points)
    assert points[0] == (0.0, min(times))


@pytest.mark.parametrize("rho", [0.0, 0.7])
@pytest.mark.parametrize("percent", [0, 50, 95])  # 0 is the mean
def test_intervals_hold_the_truth(rho: float, percent: float) -> None:
    """At least 88 of 100, also where neighbours are alike; a naive bootstrap finds 55 there."""
    rng = np.random.default_rng(7)
    truth = {0: 0.0, 50: 0.0, 95: 1.6449}[int(percent)]
    statistic = row_percentile(percent) if percent else row_means
    hits = 0
    for _ in range(100):
        interval = bootstrap_interval(
            bootstrap(autoregressive(rho, 1000, rng), statistic, rng, 200)
        )
        assert interval is not None
        hits += interval.low <= truth <= interval.high
    assert hits >= 88


def test_very_many_values_make_no_wider_interval() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=80_000)
    draws = bootstrap(values, row_means, rng, 200)
    assert draws.std() == pytest.approx(1 / np.sqrt(80_000), rel=0.2)


def autoregressive(rho: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """Normal values whose neighbours are correlated by rho."""
    noise = rng.normal(size=count) * np.sqrt(1 - rho**2)
    values = np.empty(count)
    values[0] = rng.normal()
    for k in range(1, count):
        values[k] = rho * values[k - 1] + noise[k]
    return values
