"""How many requests were under way, from when each left and ended."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Flight:
    """The number under way is `counts[i]` from `times[i]` to `times[i + 1]`."""

    times: Values
    counts: NDArray[np.int64]

    def maximum(self) -> int:
        """The most that there were at once."""
        return int(self.counts.max(initial=0))

    def mean(self, begin: float, end: float) -> float:
        """Weighted by time, between two moments."""
        if end <= begin or not len(self.times):
            return 0.0
        inside = np.clip(self.times, begin, end)
        lengths = np.diff(np.append(inside, end))
        return float(np.dot(lengths, self.counts) / (end - begin))

    def means(self, edges: Values) -> Values:
        """Weighted by time, between each two neighbouring edges."""
        if not len(self.times):
            return np.zeros(len(edges) - 1)
        lengths = np.diff(self.times)
        reached = np.concatenate([[0.0], np.cumsum(lengths * self.counts[:-1])])
        found: Values = np.diff(np.interp(edges, self.times, reached)) / np.diff(edges)
        return found


def flight_of(sent: Values, ended: Values) -> Flight:
    """An end and a start at the same moment are not both under way."""
    times = np.concatenate([ended, sent])
    steps = np.concatenate([-np.ones(len(ended), np.int64), np.ones(len(sent), np.int64)])
    known = ~np.isnan(times)
    times, steps = times[known], steps[known]
    order = np.argsort(times, kind="stable")
    return Flight(times[order], np.cumsum(steps[order]))
