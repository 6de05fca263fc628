"""Whether one number is better or worse than another, from the interval of their difference.

Each interval is wide enough that all of a comparison's together miss once in twenty times
(Bonferroni): two runs of the same thing are told apart by mistake in at most 5 % of comparisons.
"""

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Final, Literal

from maxgate.results.distribution import Interval
from maxgate.results.report import Change

Better = Literal["lower", "higher"]
Verdict = Literal["same", "better", "worse", "unclear"]

_ALONE: Final = 0.05


def bonferroni_confidence(comparisons: int) -> float:
    """Of each interval, when there are so many."""
    return 1 - _ALONE / max(1, comparisons)


def rate_change(
    before: tuple[int, int], after: tuple[int, int], *, level: str, confidence: float
) -> Change:
    """The change of a share of failures, each as (failed, attempted); Newcombe 1998."""
    if not before[1] or not after[1]:
        return unclear_change("error_rate", "rate", level, "share", "no requests")
    old, new = before[0] / before[1], after[0] / after[1]
    low_old, high_old = wilson(*before, confidence)
    low_new, high_new = wilson(*after, confidence)
    low = (new - old) - math.hypot(new - low_new, high_old - old)
    high = (new - old) + math.hypot(high_new - new, old - low_old)
    interval = Interval(low=low, high=high, confidence=confidence)
    return judge_change("error_rate", "rate", level, "share", old, new, interval)


def wilson(count: int, total: int, confidence: float) -> tuple[float, float]:
    """Wilson's score interval of a share."""
    z = _normal_quantile(confidence)
    share = count / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total**2)) / (1 + z * z / total)
    return max(0.0, middle - half), min(1.0, middle + half)


def interval_change(
    before: tuple[float, Interval | None],
    after: tuple[float, Interval | None],
    *,
    metric: str,
    statistic: str,
    level: str,
    unit: str,
    confidence: float,
    better: Better = "lower",
) -> Change:
    """The change of two numbers of which only the intervals are known; unclear without them."""
    (old, old_interval), (new, new_interval) = before, after
    interval = difference(old, old_interval, new, new_interval, confidence=confidence)
    return judge_change(metric, statistic, level, unit, old, new, interval, better=better)


def difference(
    old: float,
    old_interval: Interval | None,
    new: float,
    new_interval: Interval | None,
    *,
    confidence: float,
) -> Interval | None:
    """The interval of `new - old` at this confidence; None where one of the two has none.

    The method of variance estimates recovery (Zou and Donner 2008): it takes over the asymmetry of
    the two, which tails have. Where they are of another confidence they are stretched as a normal
    distribution's would be.
    """
    if old_interval is None or new_interval is None:
        return None
    below, above = _reach(old, old_interval, confidence)
    new_below, new_above = _reach(new, new_interval, confidence)
    return Interval(
        low=new - old - math.hypot(new_below, above),
        high=new - old + math.hypot(new_above, below),
        confidence=confidence,
    )


def _reach(value: float, interval: Interval, confidence: float) -> tuple[float, float]:
    """How far the interval goes below and above the value."""
    stretch = _normal_quantile(confidence) / _normal_quantile(interval.confidence)
    return stretch * (value - interval.low), stretch * (interval.high - value)


def judge_change(
    metric: str,
    statistic: str,
    level: str,
    unit: str,
    before: float,
    after: float,
    interval: Interval | None,
    *,
    better: Better = "lower",
) -> Change:
    """Better or worse when the interval leaves out 0."""
    if interval is None:
        return unclear_change(metric, statistic, level, unit, "too few values for an interval")
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


def unclear_change(metric: str, statistic: str, level: str, unit: str, reason: str) -> Change:
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


def _normal_quantile(confidence: float) -> float:
    """How many deviations to each side hold this share of a normal distribution."""
    return NormalDist().inv_cdf(0.5 + confidence / 2)
