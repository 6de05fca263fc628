"""`load_test.py merge`: the reports of several machines, with their raw records, as one."""

from collections.abc import Sequence
from functools import reduce
from pathlib import Path

from maxgate.loadtest.analysis.drift import drift
from maxgate.loadtest.analysis.level_report import LevelPlan, level_report
from maxgate.loadtest.analysis.pairing import paired_levels
from maxgate.loadtest.analysis.targets import grade
from maxgate.loadtest.calibration import merge_client_errors
from maxgate.results.distribution import ClientError
from maxgate.results.files import ReportError, read_report
from maxgate.results.records import Records, join, read_records
from maxgate.results.report import Change, Level, Report


def merge(paths: Sequence[Path], targets: dict[str, float]) -> tuple[Report, list[Records]]:
    """One report, from raw records: its percentiles are exact.

    Raises ReportError for files that are not parts of one run.
    """
    reports = [read_report(path) for path in paths]
    first = reports[0]
    for path, report in zip(paths, reports, strict=True):
        _check(path, report, first, paths[0])
    _check_shards(paths, reports)
    parts = [_records(path, report) for path, report in zip(paths, reports, strict=True)]
    levels, joined = [], []
    for number in range(len(parts[0])):
        records = join([part[number] for part in parts])
        joined.append(records)
        levels += _levels(reports, number, records)
    merged = first.model_copy(
        update={
            "levels": levels,
            "grades": [g for one in levels if one.side == "target" for g in grade(one, targets)],
            "interrupted": any(report.interrupted for report in reports),
            "load": first.load.model_copy(update={"shard": None}),
            "paired": _paired(first, joined),
            "drift": [d for one in levels for d in drift(one)] if first.load.kind == "soak" else [],
            "warnings": sorted({text for report in reports for text in report.warnings}),
        }
    )
    return merged, joined


def _check(path: Path, report: Report, first: Report, first_path: Path) -> None:
    if _identity(report) != _identity(first):
        raise ReportError(f"{path}: not of the same run as {first_path}")
    if report.records is None:
        raise ReportError(f"{path}: has no raw records; leave out --no-records")


def _paired(first: Report, joined: Sequence[Records]) -> list[Change]:
    if first.baseline is None:
        return []
    return paired_levels(first.levels, joined, stream=first.workload.stream, seed=first.seed)


def _check_shards(paths: Sequence[Path], reports: Sequence[Report]) -> None:
    """Each of them once: what is missing would look like less load, what is double like more."""
    found: dict[str, Path] = {}
    for path, report in zip(paths, reports, strict=True):
        shard = report.load.shard
        if shard is None:
            raise ReportError(f"{path}: not a part of a run; it was made without --shard")
        if shard in found:
            raise ReportError(f"{path}: shard {shard}, as is {found[shard]}")
        found[shard] = path
    count = next(iter(found)).partition("/")[2]
    missing = [name for k in range(int(count)) if (name := f"{k}/{count}") not in found]
    if missing:
        raise ReportError(f"{paths[0]}: the run has {count} shards; missing {', '.join(missing)}")


def _identity(report: Report) -> object:
    keys = [(level.scenario, level.name, level.side) for level in report.levels]
    return report.workload, report.seed, report.load.kind, keys


def _records(path: Path, report: Report) -> list[Records]:
    return read_records(path.with_name(report.records or ""))


def _levels(reports: Sequence[Report], number: int, records: Records) -> list[Level]:
    keys = list(dict.fromkeys((one.scenario, one.name) for one in reports[0].levels))
    chosen = [
        [one for one in report.levels if (one.scenario, one.name) == keys[number]]
        for report in reports
    ]
    return [_level(reports[0], same, records) for same in zip(*chosen, strict=True)]


def _level(report: Report, parts: Sequence[Level], records: Records) -> Level:
    first = parts[0]
    busy = [part.client.cpu for part in parts if part.client.cpu is not None]
    plan = LevelPlan(
        name=first.name,
        scenario=first.scenario,
        side=first.side,
        started_at=min(part.started_at for part in parts),
        wall=max(part.wall_seconds for part in parts),
        cpu=max(busy, default=None),
        lag=max((part.client.lag_p99 or 0.0 for part in parts), default=None),
        stream=report.workload.stream,
        scheduled="response_latency" in first.metrics,
        concurrency=first.concurrency,
        rate=first.rate,
        objectives=report.objectives,
        client_errors=reduce(merge_client_errors, map(_errors, parts)),
        seed=report.seed,
    )
    return level_report(plan, records)


def _errors(part: Level) -> dict[str, ClientError]:
    known = {metric: values.client_error for metric, values in part.metrics.items()}
    return {metric: error for metric, error in known.items() if error is not None}
