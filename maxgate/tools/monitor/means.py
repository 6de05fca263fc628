"""Shares, means and maxima of what may not be known."""

from collections.abc import Iterable


def share(part: float, whole: float) -> float | None:
    """Part of the whole; None of nothing."""
    return part / whole if whole > 0 else None


def mean(values: Iterable[float]) -> float | None:
    """None without values."""
    known = list(values)
    return sum(known) / len(known) if known else None


def most(values: Iterable[float | None]) -> float | None:
    """The largest that is known; None without any."""
    return max((value for value in values if value is not None), default=None)
