"""Histograms have fixed bounds and can be added."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from maxgate.results.summary import add_histograms, histogram

TIMES = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=100)


@given(TIMES)
def test_every_value_lies_in_its_bucket(times: list[float]) -> None:
    for time in times:
        found = histogram(np.array([time]))
        assert found is not None
        low, high = found.bounds
        assert (found.counts, low * (1 - 1e-9) <= time <= high * (1 + 1e-9)) == ([1], True)


@given(TIMES, TIMES)
def test_the_sum_is_the_histogram_of_all(left: list[float], right: list[float]) -> None:
    parts = [histogram(np.array(times)) for times in (left, right)]
    together = histogram(np.array(left + right))
    assert add_histograms([part for part in parts if part is not None]) == together


def test_nothing_has_no_histogram() -> None:
    assert (histogram(np.empty(0)), add_histograms([])) == (None, None)


def test_no_gap_at_all_is_counted_in_the_first_bucket() -> None:
    found = histogram(np.array([0.0, 0.0]))
    assert found is not None
    assert found.counts == [2]
