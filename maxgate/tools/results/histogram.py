"""Histograms of durations with fixed bounds, so that two of them can be added without loss."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from maxgate.tools.results.distribution import Histogram

STEPS_PER_OCTAVE: Final = 16
_UNIT: Final = 1e-6

Values = NDArray[np.float64]


def bound(step: int) -> float:
    """The bound number `step`: 2 ** (step / 16) microseconds."""
    return float(_UNIT * 2.0 ** (step / STEPS_PER_OCTAVE))


def histogram(values: Values) -> Histogram | None:
    """The counts from the smallest to the largest bucket that is used; None without values."""
    if not len(values):
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.ceil(np.log2(np.maximum(values, _UNIT) / _UNIT) * STEPS_PER_OCTAVE - 1e-9)
    upper = steps.astype(np.int64)
    lowest = int(upper.min())
    counts = np.bincount(upper - lowest)
    bounds = [bound(lowest - 1 + k) for k in range(len(counts) + 1)]
    return Histogram(bounds=bounds, counts=counts.tolist())


def add_histograms(histograms: Sequence[Histogram]) -> Histogram | None:
    """All of them as one; None without any."""
    counts: dict[int, int] = {}
    for one in histograms:
        lowest = round(np.log2(one.bounds[1] / _UNIT) * STEPS_PER_OCTAVE)
        for k, count in enumerate(one.counts):
            counts[lowest + k] = counts.get(lowest + k, 0) + count
    if not counts:
        return None
    low, high = min(counts), max(counts)
    return Histogram(
        bounds=[bound(step) for step in range(low - 1, high + 1)],
        counts=[counts.get(step, 0) for step in range(low, high + 1)],
    )
