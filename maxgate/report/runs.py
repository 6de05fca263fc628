"""Read several reports, name them, and compare the later ones with the oldest."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from maxgate.results.changes import interval_change, rate_change
from maxgate.results.files import ReportError, read_report
from maxgate.results.report import Change, Level, Report

_CONFIDENCE: Final = 0.95  # per value, without correction: the comparison informs and gates nothing
_COMPARED: Final = (
    ("latency", "50"),
    ("latency", "95"),
    ("latency", "99"),
    ("ttft", "50"),
    ("ttft", "95"),
    ("tpot", "50"),
)


Series = Sequence[tuple[str, Level]]
"""Levels with their display names."""


@dataclass(frozen=True, slots=True)
class Run:
    """A report with its display name."""

    name: str
    report: Report

    def name_levels(self) -> Iterator[tuple[str, Level]]:
        """Yield each level with a display name that is unique among all runs."""
        for level in self.report.levels:
            side = " baseline" if level.side == "baseline" else ""
            scenario = f" {level.scenario}" if len(self.report.workload.scenarios) > 1 else ""
            yield f"{self.name}:{scenario} {level.name}{side}", level


def read_runs(paths: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """Read reports, oldest first, and return an error line for each unreadable file.

    Duplicate paths are read once. Runs are named after their files, or after their paths if two
    files have the same name.
    """
    runs: list[Run] = []
    errors: list[str] = []
    unique = list(dict.fromkeys(paths))
    for path in unique:
        ambiguous = sum(other.stem == path.stem for other in unique) > 1
        name = str(path.with_suffix("")) if ambiguous else path.stem
        try:
            runs.append(Run(name, read_report(path)))
        except ReportError as error:
            errors.append(str(error))
    return sorted(runs, key=lambda run: run.report.created_at), errors


def compare_runs(runs: Sequence[Run]) -> list[tuple[str, Change]]:
    """Compare each later run with the first; return its name with every change.

    Only levels in both runs are compared, and only if the runs have the same workload.
    """
    if not runs:
        return []
    first, *others = runs
    before = {_identify(level): level for level in first.report.levels}
    return [
        (other.name, change)
        for other in others
        if _has_same_workload(first, other)
        for level in other.report.levels
        if _identify(level) in before
        for change in _compare_levels(before[_identify(level)], level)
    ]


def explain_incomparable(runs: Sequence[Run]) -> list[str]:
    """Return a line for each later run whose workload differs from the first run's."""
    return [
        f"{other.name} and {runs[0].name} have different workloads: their results are shown side "
        "by side but not compared"
        for other in runs[1:]
        if not _has_same_workload(runs[0], other)
    ]


def _has_same_workload(a: Run, b: Run) -> bool:
    return a.report.workload.fingerprint == b.report.workload.fingerprint


def _identify(level: Level) -> tuple[str, str, str]:
    return level.name, level.scenario, level.side


def _compare_levels(before: Level, after: Level) -> Iterator[Change]:
    for metric, percent in _COMPARED:
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
    failures = [(level.requests.failed, level.requests.attempted) for level in (before, after)]
    yield rate_change(failures[0], failures[1], level=after.name, confidence=_CONFIDENCE)
