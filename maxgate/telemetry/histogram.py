"""Latency histograms of fixed size.

Bucket bounds grow by a sixteenth of an octave, which keeps percentiles within 2.2 %. Every
sixteenth bound is a bound of OpenTelemetry's GenAI conventions (0.01 s, 0.02 s, 0.04 s, ...).
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from typing import Final

STEPS_PER_OCTAVE: Final = 16
_OCTAVES: Final = 24
_LOWEST: Final = 0.01 / 2**7
BUCKETS: Final = _OCTAVES * STEPS_PER_OCTAVE + 1
"""Number of buckets. The last one holds everything above the highest bound."""


def upper_bound(bucket: int) -> float:
    """Inclusive upper bound of the bucket in seconds; infinite for the last one."""
    if bucket >= BUCKETS - 1:
        return math.inf
    return float(_LOWEST * 2 ** (bucket / STEPS_PER_OCTAVE))


EXPOSED_BUCKETS: Final = range(4 * STEPS_PER_OCTAVE, 21 * STEPS_PER_OCTAVE, STEPS_PER_OCTAVE)
"""The buckets whose bounds are those of the Prometheus text."""
EXPOSED_BOUNDS: Final = [upper_bound(bucket) for bucket in EXPOSED_BUCKETS]

find_bucket: Callable[[float], int] = partial(
    bisect_left, [upper_bound(bucket) for bucket in range(BUCKETS - 1)]
)
"""Index of the bucket for a duration in seconds; bounds are inclusive."""


def percentile(counts: Sequence[int], percent: float) -> float | None:
    """Nearest-rank percentile in seconds; None if nothing was counted.

    Returns the geometric middle of the bucket, or the lower bound of the open last bucket.
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


@dataclass(slots=True)
class Histogram:
    """Number of durations in each bucket, and the sum of all durations in seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    total: float = 0.0

    def add(self, other: "Histogram") -> None:
        """Add the counts of another histogram."""
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.total += other.total

    def describe(self, *, buckets: bool) -> dict[str, object]:
        """Count, mean and percentiles in seconds, null if nothing was counted."""
        count = sum(self.counts)
        summary: dict[str, object] = {
            "count": count,
            "mean": self.total / count if count else None,
            "p50": percentile(self.counts, 50),
            "p95": percentile(self.counts, 95),
            "p99": percentile(self.counts, 99),
        }
        return {**summary, "buckets": self.list_buckets()} if buckets else summary

    def list_buckets(self) -> list[tuple[float, float | None, int]]:
        """Lower bound, upper bound (both in seconds) and count of each bucket that is not empty.

        The last bucket has no upper bound. The difference between two readings is the histogram
        of the time between them.
        """
        return [
            (
                0.0 if bucket == 0 else upper_bound(bucket - 1),
                None if bucket == BUCKETS - 1 else upper_bound(bucket),
                count,
            )
            for bucket, count in enumerate(self.counts)
            if count
        ]
