"""Latency histograms in fixed memory.

Bucket bounds grow by a sixteenth of an octave, so that a percentile is off by at most 2.2 %. Every
sixteenth bound is one that OpenTelemetry's GenAI conventions ask for (0.01 s, 0.02 s, 0.04 s, ...).
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

STEPS_PER_OCTAVE: Final = 16
_OCTAVES: Final = 24
_LOWEST: Final = 0.01 / 2**7
BUCKETS: Final = _OCTAVES * STEPS_PER_OCTAVE + 1
"""The last one holds everything above the highest bound."""

# log2(seconds / _LOWEST) * STEPS_PER_OCTAVE, with its constant part computed once.
_OFFSET: Final = -math.log2(_LOWEST) * STEPS_PER_OCTAVE


def upper_bound(bucket: int) -> float:
    """The largest number of seconds that the bucket holds; infinite for the last one."""
    if bucket >= BUCKETS - 1:
        return math.inf
    return float(_LOWEST * 2 ** (bucket / STEPS_PER_OCTAVE))


def find_bucket(seconds: float) -> int:
    """The bucket that holds a duration."""
    if seconds <= _LOWEST:
        return 0
    # A duration that is a bound belongs below it; the subtraction forgives rounding.
    return min(math.ceil(math.log2(seconds) * STEPS_PER_OCTAVE + _OFFSET - 1e-9), BUCKETS - 1)


def percentile(counts: Sequence[int], percent: float) -> float | None:
    """The duration that `percent` of all stay at or below, by nearest rank; None without any.

    It is the geometric middle of the bucket that holds it, and for the open last bucket its
    lower bound.
    """
    total = sum(counts)
    if total == 0:
        return None
    rank = max(1, math.ceil(total * percent / 100))
    bucket = bisect_left(list(accumulate(counts)), rank)
    if bucket == 0:
        return upper_bound(0)
    low, high = upper_bound(bucket - 1), upper_bound(bucket)
    return low if math.isinf(high) else math.sqrt(low * high)
