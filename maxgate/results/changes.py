"""Compare two values by the confidence interval of their difference.

With the Bonferroni correction, at most 5 % of comparisons of two identical servers report any
change at all.
"""

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Final, Literal

from maxgate.results.distribution import Interval
from maxgate.results.report import Change

Better = Literal["lower", "higher"]
Verdict = Literal["same", "better", "worse", "unclear"]

_FAMILY_WISE_ERROR: Final = 0.05


def bonferroni_confidence(comparisons: int) -> float:
    """Confidence that each of this many intervals needs."""
    return 1 - _FAMILY_WISE_ERROR / max(1, comparisons)


def rate_change(
    before: tuple[int, int], after: tuple[int, int], *, level: str, confidence: float
) -> Change:
    """Compare two error rates, each given as (failed, attempted); Newcombe 1998, method 10."""
    if not before[1] or not after[1]:
        return unclear_change("error_rate", "rate", level, "share", "no requests")
    old, new = before[0] / before[1], after[0] / after[1]
    low_old, high_old = wilson_interval(*before, confidence)
    low_new, high_new = wilson_interval(*after, confidence)
    low = (new - old) - math.hypot(new - low_new, high_old - old)
    high = (new - old) + math.hypot(high_new - new, old - low_old)
    interval = Interval(low=low, high=high, confidence=confidence)
    return judge_change("error_rate", "rate", level, "share", old, new, interval)


def wilson_interval(count: int, total: int, confidence: float) -> tuple[float, float]:
    """Wilson score interval of the proportion `count / total`."""
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
    """Compare two values by their intervals; unclear if either has none."""
    (old, old_interval), (new, new_interval) = before, after
    interval = difference_interval(old, old_interval, new, new_interval, confidence=confidence)
    return judge_change(metric, statistic, level, unit, old, new, interval, better=better)


def difference_interval(
    old: float,
    old_interval: Interval | None,
    new: float,
    new_interval: Interval | None,
    *,
    confidence: float,
) -> Interval | None:
    """Interval of `new - old` at this confidence; None if either value has no interval.

    Uses the method of variance estimates recovery (Zou and Donner 2008), which keeps the asymmetry
    of tail percentiles. Intervals of another confidence are scaled as for a normal distribution.
    """
    if old_interval is None or new_interval is None:
        return None
    below, above = _margins(old, old_interval, confidence)
    new_below, new_above = _margins(new, new_interval, confidence)
    return Interval(
        low=new - old - math.hypot(new_below, above),
        high=new - old + math.hypot(new_above, below),
        confidence=confidence,
    )


def _margins(value: float, interval: Interval, confidence: float) -> tuple[float, float]:
    """Distances from the value to both ends of the interval, scaled to this confidence."""
    scale = _normal_quantile(confidence) / _normal_quantile(interval.confidence)
    return scale * (value - interval.low), scale * (interval.high - value)


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
    """Build a change: better or worse if the interval excludes 0, otherwise the same."""
    if interval is None:
        return unclear_change(metric, statistic, level, unit, "too few values for an interval")
    verdict: Verdict = "same"
    if interval.low > 0:
        verdict = "worse" if better == "lower" else "better"
    elif interval.high < 0:
        verdict = "better" if better == "lower" else "worse"
    reason = "the interval excludes 0" if verdict != "same" else "the interval includes 0"
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
    """Build a change without a verdict, for this reason."""
    empty: Mapping[str, None] = dict.fromkeys(("before", "after", "difference", "interval"))
    return Change(
        metric=metric,
        statistic=statistic,
        level=level,
        unit=unit,
        verdict="unclear",
        reason=reason,
        **empty,
    )


def _normal_quantile(confidence: float) -> float:
    """Two-sided z value: standard deviations on each side that cover this confidence."""
    return NormalDist().inv_cdf(0.5 + confidence / 2)
