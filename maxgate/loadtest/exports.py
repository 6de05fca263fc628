"""Export the report as CSV and as Prometheus text."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from maxgate.results.metrics import PERCENTILES
from maxgate.results.output import open_output
from maxgate.results.report import Level, Report

_LABELS: Final = ("scenario", "level", "side")


def write_csv(report: Report, path: Path) -> None:
    """One row per level and metric; times in seconds, unknown values empty."""
    with (
        open_output(path) as output,
        io.TextIOWrapper(output, newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        keys = [f"p{key}" for key in PERCENTILES]
        columns = ["metric", "unit", "count", "min", "mean", "max", "standard_deviation", *keys]
        writer.writerow([*_LABELS, *columns])
        for level in report.levels:
            writer.writerows(_rows(level))


def _rows(level: Level) -> Iterator[list[object]]:
    head = [level.scenario, level.name, level.side]
    for metric, value, unit in _totals(level):
        yield [*head, metric, unit, level.requests.attempted, "", value]
    for metric, d in level.metrics.items():
        percentiles = [d.percentiles.get(key) for key in PERCENTILES]
        spread = [d.min, d.mean, d.max, d.standard_deviation]
        yield [*head, metric, d.unit, d.count, *spread, *percentiles]


def _totals(level: Level) -> Iterator[tuple[str, float | None, str]]:
    attempted = level.requests.attempted
    yield "requests_per_second", level.throughput.requests, "1/s"
    yield "output_tokens_per_second", level.throughput.output_tokens, "1/s"
    yield "error_rate", level.requests.failed / attempted if attempted else None, "share"
    yield "goodput", level.throughput.good_requests, "1/s"


def write_prometheus(report: Report, path: Path) -> None:
    """Gauges labelled with scenario, level and side."""
    registry = CollectorRegistry()
    seconds = Gauge(
        "loadtest_seconds",
        "Percentile of a time",
        (*_LABELS, "metric", "quantile"),
        registry=registry,
    )
    for level in report.levels:
        for metric, distribution in level.metrics.items():
            for key, value in distribution.percentiles.items():
                if value is not None and distribution.unit == "s":
                    quantile = f"{float(key) / 100:g}"
                    labels = (level.scenario, level.name, level.side, metric, quantile)
                    seconds.labels(*labels).set(value)
    _write_totals(report, registry)
    with open_output(path) as file:
        file.write(generate_latest(registry))


def _write_totals(report: Report, registry: CollectorRegistry) -> None:
    gauges = {}
    for level in report.levels:
        for name, value, _ in _totals(level):
            if name not in gauges:
                gauges[name] = Gauge(f"loadtest_{name}", name, _LABELS, registry=registry)
            if value is not None:
                gauges[name].labels(level.scenario, level.name, level.side).set(value)
    passed = Gauge(
        "loadtest_target_met", "1 if the target was met", ("level", "target"), registry=registry
    )
    for grade in report.grades:
        if grade.verdict != "unclear":
            passed.labels(grade.level, grade.target).set(grade.verdict == "pass")
