"""`load_test.py merge`: merge the reports of several machines from their raw records."""

from collections.abc import Sequence
from functools import reduce
from operator import or_
from pathlib import Path

from maxgate.loadtest.analysis.drift import detect_drift
from maxgate.loadtest.analysis.level_report import LevelPlan, build_level
from maxgate.loadtest.analysis.pairing import compare_paired_levels
from maxgate.loadtest.analysis.targets import grade
from maxgate.loadtest.calibration import merge_client_errors
from maxgate.results.distribution import ClientError
from maxgate.results.files import ReportError, read_report
from maxgate.results.records import Records, join, read_report_records
from maxgate.results.report import Level, Report


def merge(
    paths: Sequence[Path], targets: dict[str, float] | None = None
) -> tuple[Report, list[Records]]:
    """One report with exact percentiles, and the joined records of each level.

    Judges `targets`, by default those of the first report.

    Raises ReportError unless the files are all parts of one run.
    """
    reports = [read_report(path) for path in paths]
    first = reports[0]
    for path, report in zip(paths, reports, strict=True):
        if _identify(report) != _identify(first):
            raise ReportError(f"{path}: not part of the same run as {paths[0]}")
        if report.records is None:
            raise ReportError(f"{path}: no raw records; run without --no-records")
    _check_shards(paths, reports)
    parts = [read_report_records(report, path) for path, report in zip(paths, reports, strict=True)]
    joined = [join(same_level) for same_level in zip(*parts, strict=True)]
    levels = [
        level
        for number, records in enumerate(joined)
        for level in _merge_levels(reports, number, records)
    ]
    paired = []
    if first.baseline is not None:
        paired = compare_paired_levels(
            first.levels, joined, stream=first.workload.stream, seed=first.seed
        )
    if targets is None:
        targets = {one.target: one.limit for one in first.grades}
    soak = first.load.kind == "soak"
    merged = first.model_copy(
        update={
            "levels": levels,
            "grades": [g for one in levels if one.side == "target" for g in grade(one, targets)],
            "interrupted": any(report.interrupted for report in reports),
            "stopped": next((report.stopped for report in reports if report.stopped), None),
            "load": first.load.model_copy(update={"shard": None}),
            "paired": paired,
            "drift": [d for one in levels for d in detect_drift(one)] if soak else [],
            "warnings": sorted({text for report in reports for text in report.warnings}),
        }
    )
    return merged, joined


def _identify(report: Report) -> object:
    keys = [(level.scenario, level.name, level.side) for level in report.levels]
    return report.workload, report.seed, report.load.kind, keys


def _check_shards(paths: Sequence[Path], reports: Sequence[Report]) -> None:
    """Every shard exactly once: a missing or duplicate one would falsify the load."""
    found: dict[str, Path] = {}
    for path, report in zip(paths, reports, strict=True):
        shard = report.load.shard
        if shard is None:
            raise ReportError(f"{path}: not part of a sharded run (no --shard)")
        if shard in found:
            raise ReportError(f"{path}: shard {shard} is already in {found[shard]}")
        found[shard] = path
    count = next(iter(found)).partition("/")[2]
    missing = [name for k in range(int(count)) if (name := f"{k}/{count}") not in found]
    if missing:
        raise ReportError(f"{paths[0]}: missing shards: {', '.join(missing)}")


def _merge_levels(reports: Sequence[Report], number: int, records: Records) -> list[Level]:
    """Both sides of one level."""
    keys = list(dict.fromkeys((one.scenario, one.name) for one in reports[0].levels))
    parts = [
        [one for one in report.levels if (one.scenario, one.name) == keys[number]]
        for report in reports
    ]
    return [_merge_level(reports[0], side, records) for side in zip(*parts, strict=True)]


def _merge_level(report: Report, parts: Sequence[Level], records: Records) -> Level:
    first = parts[0]
    plan = LevelPlan(
        name=first.name,
        scenario=first.scenario,
        side=first.side,
        started_at=min(part.started_at for part in parts),
        wall=max(part.wall_seconds for part in parts),
        cpu=max((part.client.cpu for part in parts if part.client.cpu is not None), default=None),
        lag=max((part.client.lag_p99 or 0.0 for part in parts), default=None),
        stream=report.workload.stream,
        scheduled="response_latency" in first.metrics,
        concurrency=first.concurrency,
        rate=first.rate,
        objectives=report.objectives,
        client_errors=reduce(merge_client_errors, map(_client_errors, parts)),
        seed=report.seed,
        error_messages=reduce(or_, (part.requests.error_messages for part in reversed(parts))),
    )
    return build_level(plan, records)


def _client_errors(part: Level) -> dict[str, ClientError]:
    errors = {metric: values.client_error for metric, values in part.metrics.items()}
    return {metric: error for metric, error in errors.items() if error is not None}
