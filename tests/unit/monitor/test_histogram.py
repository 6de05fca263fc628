"""Histograms: conversion, differences, merging and percentiles."""

import math

from hypothesis import given
from hypothesis import strategies as st

from maxgate.monitor.histogram import Bucket, Histogram, from_cumulative, merge

BOUNDS = [0.1, 0.2, 0.4, 0.8, math.inf]
durations = st.lists(st.floats(min_value=0.001, max_value=2), max_size=40)


def count(values: list[float]) -> Histogram:
    """The histogram that Prometheus would publish for these durations."""
    return from_cumulative([(b, sum(v <= b for v in values)) for b in BOUNDS], sum(values))


def test_from_cumulative() -> None:
    """Cumulative counts become scaled buckets without empty ones."""
    histogram = from_cumulative([(100, 1), (200, 1), (math.inf, 3)], 500, scale=0.001)
    assert histogram == Histogram((Bucket(0, 0.1, 1), Bucket(0.2, None, 2)), 0.5)


def test_percentile() -> None:
    """A percentile lies in its bucket; an unbounded bucket gives its lower bound."""
    histogram = count([0.15, 0.15, 0.3, 5.0])
    assert [histogram.percentile(p) for p in (50, 75, 99)] == [0.2, 0.4, 0.8]


def test_empty_histogram() -> None:
    """An empty histogram has no percentiles and no mean."""
    assert Histogram().percentile(50) is None
    assert Histogram().mean is None


def test_decreased_counts() -> None:
    """After a restart, all values are new."""
    later = count([0.3])
    assert later.since(count([0.1, 0.3])) == later
    assert later.since(count([0.5])) == later
    assert later.since(count([0.3])) == Histogram()


@given(durations, durations)
def test_since(before: list[float], after: list[float]) -> None:
    """The difference has exactly the values recorded in between."""
    difference = count(before + after).since(count(before))
    assert difference.buckets == count(after).buckets
    assert abs(difference.total - sum(after)) < 1e-9


@given(durations.filter(bool), st.integers(1, 100))
def test_percentile_error(values: list[float], percent: int) -> None:
    """A percentile is in the same bucket as the exact one."""
    exact = sorted(values)[max(math.ceil(len(values) * percent / 100), 1) - 1]
    estimate = count(values).percentile(percent)
    low, high = next((a, b) for a, b in zip([0.0, *BOUNDS], BOUNDS, strict=False) if exact <= b)
    assert estimate is not None
    assert low <= estimate <= min(high, 0.8) or estimate == low == 0.8


@given(durations, durations)
def test_merge(a: list[float], b: list[float]) -> None:
    """Merged histograms equal the histogram of all values."""
    assert merge([count(a), count(b)]).buckets == count(a + b).buckets
