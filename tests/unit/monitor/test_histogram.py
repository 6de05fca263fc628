"""Percentiles of a stretch of time come from the difference of two readings."""

import math

from hypothesis import given
from hypothesis import strategies as st

from maxgate.monitor.histogram import Bucket, Histogram, from_cumulative, merged

BOUNDS = [0.1, 0.2, 0.4, 0.8, math.inf]
durations = st.lists(st.floats(min_value=0.001, max_value=2), max_size=40)


def counted(values: list[float]) -> Histogram:
    """These durations as Prometheus would publish them."""
    return from_cumulative([(b, sum(v <= b for v in values)) for b in BOUNDS], sum(values))


def test_cumulative_counts_become_buckets_in_the_wanted_unit() -> None:
    histogram = from_cumulative([(100, 1), (200, 1), (math.inf, 3)], 500, scale=0.001)
    assert histogram == Histogram((Bucket(0, 0.1, 1), Bucket(0.2, None, 2)), 0.5)


def test_a_percentile_lies_in_its_bucket_and_an_open_one_gives_its_lower_bound() -> None:
    histogram = counted([0.15, 0.15, 0.3, 5.0])
    assert [histogram.percentile(p) for p in (50, 75, 99)] == [0.2, 0.4, 0.8]
    assert Histogram().percentile(50) is None
    assert Histogram().mean is None


def test_a_counter_that_went_back_has_started_anew() -> None:
    later = counted([0.3])
    assert later.since(counted([0.1, 0.3])) == later
    assert later.since(counted([0.5])) == later
    assert later.since(counted([0.3])) == Histogram()


@given(durations, durations)
def test_what_came_in_between_is_what_is_left(before: list[float], after: list[float]) -> None:
    rest = counted(before + after).since(counted(before))
    assert rest.buckets == counted(after).buckets
    assert abs(rest.total - sum(after)) < 1e-9


@given(durations.filter(bool), st.integers(1, 100))
def test_a_percentile_is_off_by_no_more_than_its_bucket(values: list[float], percent: int) -> None:
    exact = sorted(values)[max(math.ceil(len(values) * percent / 100), 1) - 1]
    found = counted(values).percentile(percent)
    low, high = next((a, b) for a, b in zip([0.0, *BOUNDS], BOUNDS, strict=False) if exact <= b)
    assert found is not None
    assert low <= found <= min(high, 0.8) or found == low == 0.8


@given(durations, durations)
def test_two_engines_together_are_all_of_their_requests(a: list[float], b: list[float]) -> None:
    assert merged([counted(a), counted(b)]).buckets == counted(a + b).buckets
