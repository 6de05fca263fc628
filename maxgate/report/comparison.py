"""What changed from one run to another, and how sure that is."""

from collections.abc import Iterator, Sequence
from typing import Final

from maxgate.report.runs import Run
from maxgate.results.changes import interval_change, rate_change
from maxgate.results.report import Change, Level

_CONFIDENCE: Final = 0.95
"""Of each number alone: a page is read number by number, and gates nothing."""

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
            yield interval_change(
                (old, a.intervals.get(percent)),
                (new, b.intervals.get(percent)),
                metric=metric,
                statistic=f"p{percent}",
                level=after.name,
                unit="s",
                confidence=_CONFIDENCE,
            )
    yield interval_change(
        (before.throughput.requests, before.throughput.requests_interval),
        (after.throughput.requests, after.throughput.requests_interval),
        metric="throughput",
        statistic="rate",
        level=after.name,
        unit="requests/s",
        confidence=_CONFIDENCE,
        better="higher",
    )
    counts = [(level.requests.failed, level.requests.attempted) for level in (before, after)]
    yield rate_change(counts[0], counts[1], level=after.name, confidence=_CONFIDENCE)
