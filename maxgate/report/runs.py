"""Read several reports, name them, and compare the later ones with the oldest."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from maxgate.errors import ConfigurationError
from maxgate.results.changes import interval_change, rate_change
from maxgate.results.distribution import Distribution, Interval
from maxgate.results.files import ReportError, read_report
from maxgate.results.report import Change, Level, Report
from maxgate.results.statistics import min_interval_size

_CONFIDENCE: Final = 0.95  # per value, without correction: the comparison informs and gates nothing
_COMPARED: Final = (
    ("latency", "50"),
    ("latency", "95"),
    ("latency", "99"),
    ("ttft", "50"),
    ("ttft", "95"),
    ("tpot", "50"),
)
_DEFAULT_FILE_NAME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ")

Series = Sequence[tuple[str, Level]]
"""Levels with their display names."""


@dataclass(frozen=True, slots=True)
class Run:
    """A report with its display name."""

    name: str
    report: Report
    is_only: bool = False
    """Whether no other run is shown beside this one."""

    def name_curve(self, level: Level) -> str:
        """Name of the run, with the level's scenario and side where the run has several.

        The name of an only run is left out where scenario or side suffice.
        """
        scenario = [level.scenario] if len(self.report.workload.scenarios) > 1 else []
        parts = [*scenario, *(["baseline"] if level.side == "baseline" else [])]
        return " ".join(parts if self.is_only and scenario else [self.name, *parts])

    def name_levels(self) -> Iterator[tuple[str, Level]]:
        """Yield each level with a display name that is unique among all runs."""
        for level in self.report.levels:
            yield f"{self.name_curve(level)}: {level.name}", level


def name_levels(runs: Sequence[Run]) -> Iterator[tuple[str, Level]]:
    """Yield the levels with their names, without the run's name if there is only one run."""
    for run in runs:
        for name, level in run.name_levels():
            is_plain = len(runs) == 1 and name == f"{run.name}: {level.name}"
            yield level.name if is_plain else name, level


def read_runs(paths: Sequence[Path], labels: Sequence[str] = ()) -> tuple[list[Run], list[str]]:
    """Read reports, oldest first, and return an error line for each unreadable file.

    Duplicate paths are read once. `labels` names the runs in the order of the paths; without
    labels, runs are named after their files, or after model, server and time if the file has the
    load test's default name. Raises ConfigurationError if the number of labels does not match.
    """
    unique = list(dict.fromkeys(paths))
    if labels and len(labels) != len(unique):
        raise ConfigurationError(
            f"--label: {len(labels)} labels for {len(unique)} reports: give one label per report, "
            "in the same order"
        )
    reports: list[Report] = []
    names: list[str] = []
    errors: list[str] = []
    for number, path in enumerate(unique):
        try:
            report = read_report(path)
        except ReportError as error:
            errors.append(str(error))
            continue
        reports.append(report)
        ambiguous = sum(other.stem == path.stem for other in unique) > 1
        names.append(labels[number] if labels else _choose_name(path, report, ambiguous=ambiguous))
    is_only = len(unique) == 1
    runs = [
        Run(name, report, is_only)
        for name, report in zip(_make_unique(names), reports, strict=True)
    ]
    return sorted(runs, key=lambda run: run.report.created_at), errors


def _choose_name(path: Path, report: Report, *, ambiguous: bool) -> str:
    if _DEFAULT_FILE_NAME.fullmatch(path.stem):
        server = re.sub(r"^https?://", "", report.server.url)
        return f"{report.server.model or server} at {server}, {report.created_at:%m-%d %H:%M}"
    return str(path.with_suffix("")) if ambiguous else path.stem


def _make_unique(names: Sequence[str]) -> list[str]:
    """Number equal names, because charts and tables tell runs apart by name."""
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return unique


def select_interval(found: Distribution, percent: str) -> Interval | None:
    """Interval of a percentile; None if it has no value or the sample is too small for one."""
    is_small = found.count < min_interval_size(float(percent))
    if is_small or found.percentiles.get(percent) is None:
        return None
    return found.intervals.get(percent)


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
        a, b = before.find_metric(metric), after.find_metric(metric)
        if a is None or b is None:
            continue
        old, new = a.percentiles.get(percent), b.percentiles.get(percent)
        if old is not None and new is not None:
            yield interval_change(
                (old, select_interval(a, percent)),
                (new, select_interval(b, percent)),
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
