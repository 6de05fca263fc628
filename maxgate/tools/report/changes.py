"""What changed from one run to another, and how sure that is."""

import math
from collections.abc import Iterator, Sequence
from typing import Final, Literal

from maxgate.tools.report.runs import Run
from maxgate.tools.results.distribution import Interval
from maxgate.tools.results.level import Level
from maxgate.tools.results.verdict import Change

Verdict = Literal["same", "better", "worse", "unclear"]

_STATISTICS: Final = (
    ("latency", "50"),
    ("latency", "95"),
    ("latency", "99"),
    ("ttft", "50"),
    ("ttft", "95"),
    ("tpot", "50"),
)


def changes(runs: Sequence[Run]) -> list[tuple[str, Change]]:
    """Every later run's name and change against the first, for the levels that both have.

    Empty for runs of different workloads (see `incomparable`).
    """
    if not runs:
        return []
    first, *others = runs
    before = {_key(level): level for level in first.report.levels}
    return [
        (other.name, change)
        for other in others
        if _same_workload(first, other)
        for level in other.report.levels
        if _key(level) in before
        for change in _level_changes(before[_key(level)], level)
    ]


def incomparable(runs: Sequence[Run]) -> list[str]:
    """A line for each later run that sent something else than the first."""
    return [
        f"{other.name} and {runs[0].name} have different workloads: their numbers stand side by "
        "side, a change between them would mean nothing"
        for other in runs[1:]
        if not _same_workload(runs[0], other)
    ]


def _same_workload(a: Run, b: Run) -> bool:
    return a.report.workload.fingerprint == b.report.workload.fingerprint


def _key(level: Level) -> tuple[str, str, str]:
    return level.name, level.scenario, level.side


def _level_changes(before: Level, after: Level) -> Iterator[Change]:
    for metric, percent in _STATISTICS:
        a, b = before.metrics.get(metric), after.metrics.get(metric)
        if a is None or b is None:
            continue
        old, new = a.percentiles.get(percent), b.percentiles.get(percent)
        if old is not None and new is not None:
            interval = difference(old, a.intervals.get(percent), new, b.intervals.get(percent))
            yield _change(metric, f"p{percent}", after.name, "s", old, new, interval, "lower")
    a_rate, b_rate = before.throughput, after.throughput
    interval = difference(
        a_rate.requests, a_rate.requests_interval, b_rate.requests, b_rate.requests_interval
    )
    yield _change(
        "throughput", "rate", after.name, "/s", a_rate.requests, b_rate.requests, interval, "higher"
    )
    yield _errors(before, after)


def _errors(before: Level, after: Level) -> Change:
    counts = [(level.requests.failed, level.requests.attempted) for level in (before, after)]
    (old, old_interval), (new, new_interval) = (_proportion(*count) for count in counts)
    interval = difference(old, old_interval, new, new_interval)
    return _change("errors", "rate", after.name, "share", old, new, interval, "lower")


def difference(
    old: float, old_interval: Interval | None, new: float, new_interval: Interval | None
) -> Interval | None:
    """The interval of `new - old`, from the intervals of both; None where one has none.

    The method of variance estimates recovery (Zou and Donner 2008): it takes over the asymmetry of
    the two, which tails have.
    """
    if old_interval is None or new_interval is None:
        return None
    distance = new - old
    return Interval(
        low=distance - math.hypot(new - new_interval.low, old_interval.high - old),
        high=distance + math.hypot(new_interval.high - new, old - old_interval.low),
        confidence=min(old_interval.confidence, new_interval.confidence),
    )


def _proportion(part: int, whole: int) -> tuple[float, Interval | None]:
    """A share and its interval by Wilson's score (1927), which holds for small ones too."""
    if not whole:
        return 0.0, None
    z, share = 1.96, part / whole
    centre = (share + z * z / (2 * whole)) / (1 + z * z / whole)
    half = z * math.sqrt(share * (1 - share) / whole + z * z / (4 * whole * whole))
    half /= 1 + z * z / whole
    return share, Interval(low=max(min(centre - half, share), 0), high=max(centre + half, share))


def _change(
    metric: str,
    statistic: str,
    level: str,
    unit: str,
    before: float,
    after: float,
    interval: Interval | None,
    better: Literal["lower", "higher"],
) -> Change:
    verdict, reason = _judge(interval, better)
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


def _judge(interval: Interval | None, better: Literal["lower", "higher"]) -> tuple[Verdict, str]:
    if interval is None:
        return "unclear", "too few values for an interval"
    if interval.low <= 0 <= interval.high:
        return "same", "the interval holds 0: no difference that chance would not make"
    rose = interval.low > 0
    verdict: Verdict = "better" if rose == (better == "higher") else "worse"
    return verdict, "the interval does not hold 0"
