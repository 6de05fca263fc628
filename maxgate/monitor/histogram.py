"""Bucketed histograms, as published by the gateway and by engines."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple


class Bucket(NamedTuple):
    """The number of values in `(low, high]`; `high` is None if the bucket has no upper bound."""

    low: float
    high: float | None
    n: float


@dataclass(frozen=True, slots=True)
class Histogram:
    """Buckets in ascending order, and the sum of all values."""

    buckets: tuple[Bucket, ...] = ()
    total: float = 0.0

    @property
    def count(self) -> float:
        """The number of values."""
        return sum(bucket.n for bucket in self.buckets)

    @property
    def mean(self) -> float | None:
        """The exact mean; None if the histogram is empty."""
        return self.total / self.count if self.count else None

    def since(self, earlier: "Histogram") -> "Histogram":
        """The values recorded after an earlier reading.

        A decreased count means that the process restarted; then all values are returned, as
        Prometheus's `increase()` does.
        """
        before = {(bucket.low, bucket.high): bucket.n for bucket in earlier.buckets}
        rest = [b._replace(n=b.n - before.pop((b.low, b.high), 0)) for b in self.buckets]
        if before or any(bucket.n < 0 for bucket in rest):
            return self
        return Histogram(tuple(b for b in rest if b.n), max(self.total - earlier.total, 0.0))

    def percentile(self, percent: float) -> float | None:
        """The nearest-rank percentile, interpolated linearly within its bucket.

        As in Prometheus's `histogram_quantile`, an unbounded bucket yields its lower bound. The
        error is at most the width of the bucket. None if the histogram is empty.
        """
        if not self.count:
            return None
        rank, below = max(math.ceil(self.count * percent / 100), 1), 0.0
        for low, high, n in self.buckets:
            if below + n >= rank:
                return low if high is None else min(low + (high - low) * (rank - below) / n, high)
            below += n
        return self.buckets[-1].high  # fractional counts may sum to slightly less than the rank


def merge(histograms: Iterable[Histogram]) -> Histogram:
    """Add up the histograms bucket by bucket."""
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
    """Convert a Prometheus histogram: pairs of `le` and cumulative count; scale values."""
    ordered = [(0.0, 0.0), *sorted(bounds)]
    buckets = [
        Bucket(low * scale, None if math.isinf(high) else high * scale, up_to - before)
        for (low, before), (high, up_to) in pairwise(ordered)
        if up_to > before
    ]
    return Histogram(tuple(buckets), total * scale)
