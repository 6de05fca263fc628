"""Tests of the interval of a difference and of the verdict drawn from it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxgate.results.changes import (
    difference_interval,
    interval_change,
    rate_change,
    wilson_interval,
)
from maxgate.results.distribution import Interval

numbers = st.floats(-1e6, 1e6)
halves = st.floats(0, 1e6)


@given(numbers, numbers, halves, halves, halves, halves)
def test_interval_contains_difference(
    old: float, new: float, a: float, b: float, c: float, d: float
) -> None:
    """The interval of a difference contains the difference itself."""
    found = difference_interval(
        old,
        Interval(low=old - a, high=old + b),
        new,
        Interval(low=new - c, high=new + d),
        confidence=0.95,
    )
    assert found is not None
    assert found.low <= new - old <= found.high


def test_symmetric_intervals() -> None:
    """Symmetric intervals combine as the root of the sum of squares."""
    found = difference_interval(
        1.0, Interval(low=0.7, high=1.3), 2.0, Interval(low=1.6, high=2.4), confidence=0.95
    )
    assert found is not None
    assert np.allclose((found.low, found.high), (0.5, 1.5))  # 1 +- sqrt(0.3^2 + 0.4^2)


def test_higher_confidence_widens_interval() -> None:
    """From 95 % to 99 % the interval grows by 2.576 / 1.960, the ratio of the z values."""
    around = Interval(low=-1.0, high=1.0)
    found = difference_interval(0.0, around, 0.0, around, confidence=0.99)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((-1.8586, 1.8586), abs=1e-3)


def test_no_verdict_without_interval() -> None:
    """A change is unclear if one of the values has no interval."""
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


def test_wilson_interval() -> None:
    """The 95 % Wilson interval of 8 in 10 is 0.490 to 0.943, as in textbooks."""
    assert wilson_interval(8, 10, 0.95) == pytest.approx((0.490, 0.943), abs=1e-3)


def test_no_errors_is_no_change() -> None:
    """Two runs without errors have the same error rate."""
    assert rate_change((0, 100), (0, 100), level="x", confidence=0.95).verdict == "same"


def test_many_new_errors_are_worse() -> None:
    """An error rate that rises from 0 to 15 % of 200 requests is worse."""
    assert rate_change((0, 200), (30, 200), level="x", confidence=0.99).verdict == "worse"
