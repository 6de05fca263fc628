"""Checks of a report beyond the types of its fields.

A damaged or edited report must not lead to wrong tables, endless loops or overflows in the programs
that read it, so every value is checked against the limits that a load test keeps.
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final

from maxgate.results.distribution import Distribution, Histogram, Interval
from maxgate.results.quoting import shorten
from maxgate.results.report import Level, Report, Requests

_MAX_NUMBER: Final = 1e15
_MAX_TEXT: Final = 100_000
_MAX_LEVELS: Final = 1000
_MAX_SECONDS: Final = 400 * 86400
_MAX_BUCKETS: Final = 2000
_MAX_FILE_NAME: Final = 255
"""The most bytes that file systems allow."""

Finding = tuple[str, str]
"""Path of a field, and the rule that it breaks."""


def find_extreme_values(data: Any) -> Iterator[Finding]:
    """Yield numbers and texts of parsed JSON that no report has."""
    stack: list[tuple[str, Any]] = [("", data)]
    while stack:
        path, value = stack.pop()
        if isinstance(value, dict):
            stack += (
                (f"{path}.{shorten(key)}" if path else shorten(key), one)
                for key, one in value.items()
            )
        elif isinstance(value, list):
            stack += ((f"{path}.{index}", one) for index, one in enumerate(value))
        elif isinstance(value, int | float) and not -_MAX_NUMBER < value < _MAX_NUMBER:
            yield path, f"must be between -1e15 and 1e15, got {value}"
        elif isinstance(value, str) and len(value) > _MAX_TEXT:
            yield path, f"has {len(value)} characters, more than {_MAX_TEXT}"


def find_inconsistencies(report: Report) -> Iterator[Finding]:
    """Yield the fields whose values contradict each other."""
    for name, items in (("levels", report.levels), ("workload", report.workload.scenarios)):
        if len(items) > _MAX_LEVELS:
            yield name, f"has {len(items)} entries, more than {_MAX_LEVELS}"
    if report.records is not None and not _is_file_name(report.records):
        yield "records", "must be the name of a file in the folder of the report"
    for number, level in enumerate(report.levels):
        for field, rule in _check_level(level, report):
            yield f"levels.{number}.{field}", rule
    for number, change in enumerate([*report.paired, *report.comparison]):
        yield from _check_interval(f"paired or comparison, change {number}", change.interval)


def _is_file_name(name: str) -> bool:
    is_short = 0 < len(name.encode()) <= _MAX_FILE_NAME
    return is_short and name.isprintable() and "/" not in name and name not in {".", ".."}


def _check_level(level: Level, report: Report) -> Iterator[Finding]:
    yield from _check_counts(level.requests)
    for field in ("wall_seconds", "window_seconds"):
        if not 0 <= (seconds := getattr(level, field)) <= _MAX_SECONDS:
            yield field, f"must be from 0 to {_MAX_SECONDS}, got {seconds:g}"
    rates = level.throughput
    smallest = min(
        rates.requests, rates.output_tokens, rates.chunks, level.concurrency or 0, level.rate or 0
    )
    if smallest < 0:
        yield "throughput", f"rates must not be negative, got {smallest:g}"
    yield from _check_interval("throughput.requests_interval", rates.requests_interval)
    yield from _check_timeline(level)
    for name, values in level.metrics.items():
        metric = f"metrics.{shorten(name)}"
        if name not in report.definitions:
            yield metric, "has no entry in definitions"
        for field, rule in _check_distribution(values):
            yield f"{metric}.{field}", rule


def _check_counts(requests: Requests) -> Iterator[Finding]:
    counts = (requests.succeeded, requests.failed, requests.unfinished, *requests.errors.values())
    if min(counts) < 0 or requests.succeeded + requests.failed != requests.attempted:
        yield "requests", "attempted must be succeeded + failed, and no number negative"
    if not 0 <= (requests.good or 0) <= requests.attempted:
        yield "requests.good", f"must be from 0 to {requests.attempted}, got {requests.good}"


def _check_timeline(level: Level) -> Iterator[Finding]:
    last = -1
    for number, second in enumerate(level.timeline):
        if not last < second.offset <= _MAX_SECONDS:
            yield f"timeline.{number}.offset", "must ascend from 0"
            return
        last = second.offset
        if min(second.started, second.succeeded, second.failed, second.output_tokens) < 0:
            yield f"timeline.{number}", "counts must not be negative"
            return


def _check_distribution(values: Distribution) -> Iterator[Finding]:
    if values.count < 0:
        yield "count", f"must not be negative, got {values.count}"
    known = [one for one in (values.min, values.mean, values.max) if one is not None]
    # A mean is rounded: that of equal values may be just above them.
    if any(after < before - 1e-9 * abs(before) for before, after in pairwise(known)):
        yield "mean", "min, mean and max must ascend"
    held = {} if values.client_error is None else values.client_error.held
    for key in values.percentiles | values.including_failures | held:
        if not _is_percent(key):
            yield "percentiles", f"{key[:40]!r} is not a number from 0 to 100"
    for key, interval in values.intervals.items():
        yield from _check_interval(f"intervals.{shorten(key)}", interval)
    if any(not 0 <= percent <= 100 for percent, _ in values.curve):
        yield "curve", "percents must be from 0 to 100"
    if values.histogram is not None:
        yield from _check_histogram(values.histogram)


def _check_histogram(histogram: Histogram) -> Iterator[Finding]:
    buckets, bounds = len(histogram.counts), histogram.bounds
    if not 0 < buckets <= _MAX_BUCKETS or len(bounds) != buckets + 1:
        yield "histogram", f"needs one bound more than counts, at most {_MAX_BUCKETS} counts"
    elif (
        bounds[0] <= 0
        or any(low >= high for low, high in pairwise(bounds))
        or min(histogram.counts) < 0
    ):
        yield "histogram", "bounds must ascend from above 0, and no count be negative"


def _check_interval(field: str, interval: Interval | None) -> Iterator[Finding]:
    if interval is None:
        return
    if interval.low > interval.high:
        yield field, f"low {interval.low:g} is above high {interval.high:g}"
    if not 0 < interval.confidence < 1:
        yield field, f"confidence must be between 0 and 1, got {interval.confidence:g}"


def _is_percent(key: str) -> bool:
    return re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,6})?", key) is not None and float(key) <= 100
