"""Percentiles from a histogram are within 2.2 % of the exact ones."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxgate.telemetry.histogram import (
    BUCKETS,
    Histogram,
    find_bucket,
    percentile,
    upper_bound,
)

durations = st.floats(0.0001, 1000)


def count(*values: float) -> list[int]:
    """Bucket counts of these durations."""
    counts = [0] * BUCKETS
    for value in values:
        counts[find_bucket(value)] += 1
    return counts


@given(durations)
def test_bucket_bounds(seconds: float) -> None:
    """A duration lies within the bounds of its bucket."""
    bucket = find_bucket(seconds)
    assert seconds <= upper_bound(bucket) * (1 + 1e-9)
    assert bucket == 0 or seconds > upper_bound(bucket - 1) * (1 - 1e-9)


@given(st.lists(durations, min_size=1, max_size=200), st.sampled_from([50, 95, 99, 100]))
def test_percentile(values: list[float], percent: int) -> None:
    """A percentile is close to the exact nearest-rank percentile."""
    exact = sorted(values)[math.ceil(len(values) * percent / 100) - 1]
    assert percentile(count(*values), percent) == pytest.approx(exact, rel=0.022)


@pytest.mark.parametrize("number", range(14))
def test_opentelemetry_bounds(number: int) -> None:
    """The bounds of OpenTelemetry's GenAI conventions are bucket bounds."""
    bound = 0.01 * 2**number
    assert upper_bound(find_bucket(bound)) == pytest.approx(bound, rel=1e-12)


def test_extremes() -> None:
    """The first and last bucket are open; nothing counted has no percentile."""
    assert (find_bucket(0), find_bucket(-1), find_bucket(1e9)) == (0, 0, BUCKETS - 1)
    assert percentile(count(), 50) is None
    assert percentile(count(1e9), 50) == upper_bound(BUCKETS - 2)


def test_add() -> None:
    """Counts and sums of two histograms add up."""
    total = Histogram(count(1.0, 2.0), 3.0)
    total.add(Histogram(count(2.0), 2.0))
    assert total == Histogram(count(1.0, 2.0, 2.0), 5.0)


def test_list_buckets() -> None:
    """Only buckets that are not empty are listed; the first one starts at zero."""
    buckets = Histogram(count(0.0, 7000.0, 7000.0)).list_buckets()
    assert buckets == [(0.0, upper_bound(0), 1), (upper_bound(BUCKETS - 2), None, 2)]
