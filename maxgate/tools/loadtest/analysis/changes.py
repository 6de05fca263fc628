"""Two sets of numbers against each other: paired in one run, or an old report against a new one.

Each interval is wide enough that all of a comparison's together miss once in twenty times
(Bonferroni): two runs of the same thing are told apart by mistake in at most 5 % of comparisons.
"""

import math
from collections.abc import Mapping
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from maxgate.tools.results.distribution import Interval
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
Verdict = Literal["same", "better", "worse", "unclear"]

_RESAMPLES: Final = 2000
_ALONE: Final = 0.05


def confidence_of(comparisons: int) -> float:
    """Of each interval, when there are so many."""
    return 1 - _ALONE / max(1, comparisons)


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
    if min(counts) < max(enough_for(percent), 5):
        return unclear(
            metric, statistic, level, "s", f"{counts[0]} and {counts[1]} pairs in the two orders"
        )

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


def rate_change(
    before: tuple[int, int], after: tuple[int, int], *, level: str, confidence: float
) -> Change:
    """The change of a share of failures, each as (failed, attempted); Newcombe 1998."""
    if not before[1] or not after[1]:
        return unclear("error_rate", "rate", level, "share", "no requests")
    old, new = before[0] / before[1], after[0] / after[1]
    low_old, high_old = wilson(*before, confidence)
    low_new, high_new = wilson(*after, confidence)
    low = (new - old) - math.hypot(new - low_new, high_old - old)
    high = (new - old) + math.hypot(high_new - new, old - low_old)
    interval = Interval(low=low, high=high, confidence=confidence)
    return judged("error_rate", "rate", level, "share", old, new, interval)


def wilson(count: int, total: int, confidence: float) -> tuple[float, float]:
    """Wilson's score interval of a share."""
    z = _normal_quantile(0.5 + confidence / 2)
    share = count / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total**2)) / (1 + z * z / total)
    return max(0.0, middle - half), min(1.0, middle + half)


def interval_change(
    before: tuple[float, Interval],
    after: tuple[float, Interval],
    *,
    metric: str,
    statistic: str,
    level: str,
    unit: str,
    confidence: float,
    better: Literal["lower", "higher"] = "lower",
) -> Change:
    """The change of two numbers of which only the intervals are known."""
    (old, old_interval), (new, new_interval) = before, after
    wider = _normal_quantile(0.5 + confidence / 2) / _normal_quantile(
        0.5 + old_interval.confidence / 2
    )
    down = wider * math.hypot(new - new_interval.low, old_interval.high - old)
    up = wider * math.hypot(new_interval.high - new, old - old_interval.low)
    interval = Interval(low=new - old - down, high=new - old + up, confidence=confidence)
    return judged(metric, statistic, level, unit, old, new, interval, better=better)


def judged(
    metric: str,
    statistic: str,
    level: str,
    unit: str,
    before: float,
    after: float,
    interval: Interval | None,
    *,
    better: Literal["lower", "higher"] = "lower",
) -> Change:
    """Better or worse when the interval leaves out 0."""
    if interval is None:
        return unclear(metric, statistic, level, unit, "no interval can be given")
    verdict: Verdict = "same"
    if interval.low > 0:
        verdict = "worse" if better == "lower" else "better"
    elif interval.high < 0:
        verdict = "better" if better == "lower" else "worse"
    reason = "the interval leaves out 0" if verdict != "same" else "the interval holds 0"
    return Change(
        metric=metric,
        statistic=statistic,
        level=level,
        unit=unit,
        before=before,
        after=after,
        difference=after - before,
        interval=interval,
        verdict=verdict,
        reason=reason,
    )


def unclear(metric: str, statistic: str, level: str, unit: str, reason: str) -> Change:
    """No verdict, and why."""
    nothing: Mapping[str, None] = dict.fromkeys(("before", "after", "difference", "interval"))
    return Change(
        metric=metric,
        statistic=statistic,
        level=level,
        unit=unit,
        verdict="unclear",
        reason=reason,
        **nothing,
    )


def _normal_quantile(p: float) -> float:
    from statistics import NormalDist  # noqa: PLC0415  # its name is taken here

    return NormalDist().inv_cdf(p)
