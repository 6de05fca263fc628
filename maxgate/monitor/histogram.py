"""Durations counted in buckets, as gateways and engines publish them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple


class Bucket(NamedTuple):
    """How many lie above `low` and at or below `high`; `high` is None for no bound."""

    low: float
    high: float | None
    n: float


@dataclass(frozen=True, slots=True)
class Histogram:
    """Buckets in rising order, and the sum of what was counted, in its unit."""

    buckets: tuple[Bucket, ...] = ()
    total: float = 0.0

    @property
    def count(self) -> float:
        """How many were counted."""
        return sum(bucket.n for bucket in self.buckets)

    @property
    def mean(self) -> float | None:
        """None without any."""
        return self.total / self.count if self.count else None

    def since(self, earlier: "Histogram") -> "Histogram":
        """What was counted after an earlier reading.

        Counters that went back have started anew, so then it is everything (Prometheus's rule).
        """
        before = {(bucket.low, bucket.high): bucket.n for bucket in earlier.buckets}
        rest = [b._replace(n=b.n - before.pop((b.low, b.high), 0)) for b in self.buckets]
        if before or any(bucket.n < 0 for bucket in rest):
            return self
        return Histogram(tuple(b for b in rest if b.n), max(self.total - earlier.total, 0.0))

    def percentile(self, percent: float) -> float | None:
        """The value that `percent` of all stay at or below; None without any.

        By nearest rank, and inside its bucket by straight line, as Prometheus's
        `histogram_quantile`; in a bucket without an upper bound it is the lower one. So it is off
        by no more than the bucket is wide.
        """
        if not self.count:
            return None
        rank, below = max(math.ceil(self.count * percent / 100), 1), 0.0
        for low, high, n in self.buckets:
            if below + n >= rank:
                return low if high is None else min(low + (high - low) * (rank - below) / n, high)
            below += n
        return self.buckets[-1].high  # fractional counts that did not add up to the rank


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """All of them together."""
    counts: dict[tuple[float, float | None], float] = {}
    total = 0.0
    for histogram in histograms:
        total += histogram.total
        for low, high, n in histogram.buckets:
            counts[low, high] = counts.get((low, high), 0) + n
    ordered = sorted(counts, key=lambda bounds: (bounds[0], bounds[1] or math.inf))
    return Histogram(tuple(Bucket(*bounds, counts[bounds]) for bounds in ordered), total)


def from_cumulative(
    bounds: Sequence[tuple[float, float]], total: float, *, scale: float = 1.0
) -> Histogram:
    """A Prometheus histogram: per `le` how many are at or below it; values are times `scale`."""
    ordered = [(0.0, 0.0), *sorted(bounds)]
    buckets = [
        Bucket(low * scale, None if math.isinf(high) else high * scale, up_to - before)
        for (low, before), (high, up_to) in pairwise(ordered)
        if up_to > before
    ]
    return Histogram(tuple(buckets), total * scale)
