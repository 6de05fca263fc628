"""Two sets of latencies against each other: paired in one run, or an old run against a new one."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from maxgate.tools.results.changes import judged, unclear
from maxgate.tools.results.statistics import (
    Statistic,
    at_percentile,
    enough_for,
    interval_of,
    mean_of,
    resampled,
)
from maxgate.tools.results.verdict import Change

Values = NDArray[np.float64]

_RESAMPLES: Final = 2000


def latency_change(
    before: Values,
    after: Values,
    *,
    metric: str,
    statistic: str,
    level: str,
    confidence: float,
    rng: np.random.Generator,
) -> Change:
    """The change of one statistic of two independent samples, each in order of time."""
    percent = float(statistic[1:]) if statistic != "mean" else 50.0
    of: Statistic = mean_of if statistic == "mean" else at_percentile(percent)
    # An interval of a percentile needs several values beyond it, at both ends of the interval.
    needed = 10 * enough_for(percent)
    if min(len(before), len(after)) < needed:
        why = f"needs {needed} values on each side, has {min(len(before), len(after))}"
        return unclear(metric, statistic, level, "s", why)
    draws = resampled(after, of, rng, _RESAMPLES) - resampled(before, of, rng, _RESAMPLES)
    old, new = float(of(before[None, :])[0]), float(of(after[None, :])[0])
    return judged(metric, statistic, level, "s", old, new, interval_of(draws, confidence))


def paired_change(
    before: Values,
    after: Values,
    *,
    after_first: NDArray[np.bool_],
    metric: str,
    statistic: str,
    level: str,
    confidence: float,
    rng: np.random.Generator,
) -> Change:
    """The same of pairs: `before[i]` and `after[i]` are the same request on two servers.

    The median is that of the differences; other percentiles are differences of percentiles. Each
    is the mean of two, one from the pairs in which `after` was asked first and one from the others:
    what the second of a pair gains from the first (a warm cache) is in both with opposite signs
    (a crossover design in two periods; Jones and Kenward 2014, chapter 2).
    """
    percent = float(statistic[1:]) if statistic != "mean" else 50.0
    of: Statistic = mean_of if statistic == "mean" else at_percentile(percent)
    orders = [after_first, ~after_first]
    counts = [int(order.sum()) for order in orders]
    needed = max(enough_for(percent), 5)
    if min(counts) < needed:
        why = f"needs {needed} pairs in each order, has {counts[0]} and {counts[1]}"
        return unclear(metric, statistic, level, "s", why)

    def difference(rows: Values) -> Values:
        left, right = rows[..., 0], rows[..., 1]
        return of(right - left) if statistic in {"mean", "p50"} else of(right) - of(left)

    # Rows of two, so that a resample keeps the pairs.
    together = [np.stack([before[order], after[order]], axis=1) for order in orders]
    draws = np.mean([resampled(rows, difference, rng, _RESAMPLES) for rows in together], axis=0)
    value = float(np.mean([difference(rows[None, :])[0] for rows in together]))
    old = float(of(before[None, :])[0])
    interval = interval_of(draws, confidence)
    return judged(metric, statistic, level, "s", old, old + value, interval)
