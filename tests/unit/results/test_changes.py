"""The interval of a difference, and what is concluded from it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxgate.results.changes import difference, interval_change, rate_change, wilson
from maxgate.results.distribution import Interval

numbers = st.floats(-1e6, 1e6)
halves = st.floats(0, 1e6)


@given(numbers, numbers, halves, halves, halves, halves)
def test_the_interval_of_a_difference_holds_it(
    old: float, new: float, a: float, b: float, c: float, d: float
) -> None:
    found = difference(
        old,
        Interval(low=old - a, high=old + b),
        new,
        Interval(low=new - c, high=new + d),
        confidence=0.95,
    )
    assert found is not None
    assert found.low <= new - old <= found.high


def test_with_equal_normal_intervals_it_is_the_textbook_one() -> None:
    found = difference(
        1.0, Interval(low=0.7, high=1.3), 2.0, Interval(low=1.6, high=2.4), confidence=0.95
    )
    assert found is not None
    assert np.allclose((found.low, found.high), (0.5, 1.5))  # 1 +- sqrt(0.3^2 + 0.4^2)


def test_at_a_higher_confidence_it_is_wider() -> None:
    """By 2.576 / 1.960, the normal distribution's quantiles at 99 and 95 %."""
    around = Interval(low=-1.0, high=1.0)
    found = difference(0.0, around, 0.0, around, confidence=0.99)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((-1.8586, 1.8586), abs=1e-3)


def test_without_an_interval_there_is_no_verdict() -> None:
    change = interval_change(
        (1.0, None),
        (2.0, Interval(low=1.6, high=2.4)),
        metric="latency",
        statistic="p50",
        level="x",
        unit="s",
        confidence=0.95,
    )
    assert (change.verdict, change.reason) == ("unclear", "too few values for an interval")


def test_the_interval_of_a_share_is_wilsons() -> None:
    """8 of 10 at 95 %: the textbook's 0.490 to 0.943."""
    assert wilson(8, 10, 0.95) == pytest.approx((0.490, 0.943), abs=1e-3)


def test_no_errors_in_either_is_no_change() -> None:
    assert rate_change((0, 100), (0, 100), level="x", confidence=0.95).verdict == "same"


def test_many_new_errors_are_worse() -> None:
    assert rate_change((0, 200), (30, 200), level="x", confidence=0.99).verdict == "worse"
