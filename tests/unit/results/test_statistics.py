"""Tests of percentiles against numpy and of the coverage of bootstrap intervals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxgate.results.statistics import (
    bootstrap,
    bootstrap_interval,
    curve,
    min_interval_size,
    percentile,
    percentiles,
    percentiles_including_failures,
    row_means,
    row_percentile,
)

TIMES = st.lists(st.floats(0, 1e4), min_size=1, max_size=300)


@given(TIMES, st.floats(0.1, 100))
def test_percentile_matches_numpy(times: list[float], percent: float) -> None:
    """Percentiles equal those of numpy with the method `inverted_cdf`."""
    ordered = np.sort(np.array(times))
    rank = len(times) * percent / 100
    # At a step of the distribution, the two may round differently.
    if abs(rank - round(rank)) > 1e-6:
        expected = np.percentile(ordered, percent, method="inverted_cdf")
        assert percentile(ordered, percent) == expected


def test_nearest_rank() -> None:
    """The P99 of 1 to 100 is 99."""
    assert percentile(np.arange(1.0, 101.0), 99) == 99


@pytest.mark.parametrize(
    ("percent", "size"), [(50, 6), (90, 36), (95, 72), (99, 368), (99.9, 3688)]
)
def test_min_interval_size(percent: float, size: int) -> None:
    """From this size on, the percentile exceeds every value with at most 2.5 % probability."""
    assert min_interval_size(percent) == size
    assert (percent / 100) ** size <= 0.025 < (percent / 100) ** (size - 1)


def test_small_sample_has_no_tail() -> None:
    """P99 of 99 values is None, because it needs 100."""
    assert percentiles(np.arange(1.0, 100.0)) == {
        "50": 50,
        "90": 90,
        "95": 95,
        "99": None,
        "99.9": None,
    }


def test_empty_sample() -> None:
    """An empty sample has no percentile and an empty curve."""
    assert (percentile(np.empty(0), 50), curve(np.empty(0))) == (None, [])


def test_failures_are_slowest() -> None:
    """With 30 failures in 100 requests, P50 is a response and P90 is a failure."""
    ordered = np.linspace(0.1, 0.2, 70)
    found = percentiles_including_failures(ordered, 30)
    assert found == {"50": pytest.approx(ordered[49]), "90": None, "95": None, "99": None}


@given(TIMES)
def test_curve_is_ascending(times: list[float]) -> None:
    """The curve starts at the minimum and never decreases."""
    points = curve(np.sort(np.array(times)))
    assert points == sorted(points)
    assert points[0] == (0.0, min(times))


@pytest.mark.parametrize("rho", [0.0, 0.7])
@pytest.mark.parametrize("percent", [0, 50, 95])  # 0 is the mean
def test_interval_coverage(rho: float, percent: float) -> None:
    """At least 88 of 100 intervals contain the true value, also for correlated values."""
    # For rho = 0.7, a bootstrap of single values covers only 55.
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


def test_large_sample_deviation() -> None:
    """Resamples smaller than the sample keep the standard error of the whole sample."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=80_000)
    draws = bootstrap(values, row_means, rng, 200)
    assert draws.std() == pytest.approx(1 / np.sqrt(80_000), rel=0.2)


def autoregressive(rho: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """Generate standard normal values with lag-1 correlation rho."""
    noise = rng.normal(size=count) * np.sqrt(1 - rho**2)
    values = np.empty(count)
    values[0] = rng.normal()
    for k in range(1, count):
        values[k] = rho * values[k - 1] + noise[k]
    return values
