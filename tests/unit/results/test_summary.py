"""Tests of histograms with fixed bounds and of their sums."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from maxgate.results.summary import add_histograms, histogram

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
