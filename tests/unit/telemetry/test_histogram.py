"""Percentiles from fixed memory are within 2.2 % of the exact ones."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxgate.telemetry.histogram import BUCKETS, find_bucket, percentile, upper_bound

durations = st.floats(0.0001, 1000)


@given(durations)
def test_a_duration_lies_within_its_bucket(seconds: float) -> None:
    bucket = find_bucket(seconds)
    assert seconds <= upper_bound(bucket) * (1 + 1e-9)
    assert bucket == 0 or seconds > upper_bound(bucket - 1) * (1 - 1e-9)


@given(st.lists(durations, min_size=1, max_size=200), st.sampled_from([50, 95, 99, 100]))
def test_a_percentile_is_near_the_exact_one(values: list[float], percent: int) -> None:
    counts = [0] * BUCKETS
    for value in values:
        counts[find_bucket(value)] += 1
    exact = sorted(values)[math.ceil(len(values) * percent / 100) - 1]
    assert percentile(counts, percent) == pytest.approx(exact, rel=0.022)


@pytest.mark.parametrize("number", range(14))
def test_the_bounds_of_the_conventions_are_bounds(number: int) -> None:
    bound = 0.01 * 2**number
    assert upper_bound(find_bucket(bound)) == pytest.approx(bound, rel=1e-12)


def test_the_ends_are_open() -> None:
    counts = [0] * BUCKETS
    assert percentile(counts, 50) is None
    counts[find_bucket(1e9)] = 1
    assert find_bucket(1e9) == BUCKETS - 1
    assert percentile(counts, 50) == upper_bound(BUCKETS - 2)
    assert (find_bucket(0), find_bucket(-1)) == (0, 0)
