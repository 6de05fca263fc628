"""Tests of histograms with fixed bounds and of their sums."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxgate.results.summary import add_histograms, histogram, summarize

TIMES = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=100)


@given(TIMES)
def test_value_lies_in_bucket(times: list[float]) -> None:
    """Each value lies between the bounds of the bucket that counts it."""
    for time in times:
        found = histogram(np.array([time]))
        assert found is not None
        low, high = found.bounds
        assert (found.counts, low * (1 - 1e-9) <= time <= high * (1 + 1e-9)) == ([1], True)


@given(TIMES, TIMES)
def test_sum_of_histograms(left: list[float], right: list[float]) -> None:
    """The sum of two histograms equals the histogram of all values."""
    parts = [histogram(np.array(times)) for times in (left, right)]
    together = histogram(np.array(left + right))
    assert add_histograms([part for part in parts if part is not None]) == together


def test_no_values() -> None:
    """There is no histogram without values."""
    assert (histogram(np.empty(0)), add_histograms([])) == (None, None)


def test_zero_is_in_first_bucket() -> None:
    """Values of 0 are counted in the first bucket."""
    found = histogram(np.array([0.0, 0.0]))
    assert found is not None
    assert found.counts == [2]


@pytest.mark.parametrize(
    ("count", "keys"),
    [
        (9, []),
        (35, ["mean", "50"]),
        (71, ["mean", "50", "90"]),
        (72, ["mean", "50", "90", "95"]),
        (368, ["mean", "50", "90", "95", "99"]),
    ],
)
def test_intervals_need_large_samples(count: int, keys: list[str]) -> None:
    """A percentile has an interval only if the sample is large enough for its upper end."""
    values = np.random.default_rng(1).exponential(1, count)
    found = summarize("latency", values, rng=np.random.default_rng(2))
    assert list(found.intervals) == keys
