"""Group the levels of all runs into curves over the load, and read the values to draw."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from maxgate.report.runs import Run, select_interval
from maxgate.results.distribution import Interval
from maxgate.results.report import Level

MAX_COLORS: Final = 8
"""Curves that can be told apart by color in one chart; more are drawn in small multiples."""
_TIMELINE_BINS: Final = 150


@dataclass(frozen=True, slots=True)
class Curve:
    """Levels of one run, scenario and side, in order of measurement."""

    name: str
    levels: Sequence[Level]
    started_at: datetime
    """Start of the run, not of the curve's first level."""


@dataclass(frozen=True, slots=True)
class LoadAxis:
    """The independent variable of charts by load."""

    title: str
    read: Callable[[Level], float]


@dataclass(frozen=True, slots=True)
class Point:
    """A value at one level, in the metric's base unit."""

    curve: str
    level: Level
    load: float
    value: float
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class Moment:
    """One bin of a timeline; `second` counts from the start of the run, `part` is the level."""

    curve: str
    part: str
    second: int
    width: int
    """Seconds in the bin."""
    output_tokens: float
    latency_p95: float | None
    """Highest P95 of the bin's seconds."""
    in_flight: float


def build_curves(runs: Sequence[Run]) -> list[Curve]:
    """Return a curve per run, scenario and side, in this order."""
    curves = []
    for run in runs:
        groups: dict[str, list[Level]] = {}
        for level in run.report.levels:
            groups.setdefault(run.name_curve(level), []).append(level)
        start = min(
            (level.started_at for level in run.report.levels), default=run.report.created_at
        )
        curves += [Curve(name, levels, start) for name, levels in groups.items()]
    return curves


def choose_load_axis(curves: Sequence[Curve]) -> LoadAxis:
    """Use the load that was set if all levels have the same kind, otherwise the load measured."""
    levels = [level for curve in curves for level in curve.levels]
    if all(level.rate is not None for level in levels):
        return LoadAxis("scheduled requests/s", lambda level: level.rate or 0.0)
    if all(level.rate is None and level.concurrency for level in levels):
        return LoadAxis("concurrency", lambda level: level.concurrency or 0)
    return LoadAxis("mean requests in flight", lambda level: level.in_flight.mean)


def varies_by_load(curves: Sequence[Curve], axis: LoadAxis) -> bool:
    """Whether any curve has at least two loads."""
    return any(len(set(map(axis.read, curve.levels))) > 1 for curve in curves)


def list_rates(curves: Sequence[Curve], axis: LoadAxis, *, tokens: bool) -> list[Point]:
    """Output tokens per second, or requests per second with their intervals."""
    return [
        Point(
            curve.name,
            level,
            axis.read(level),
            level.throughput.output_tokens if tokens else level.throughput.requests,
            None if tokens else level.throughput.requests_interval,
        )
        for curve in curves
        for level in curve.levels
        if level.requests.succeeded
    ]


def list_percentiles(
    curves: Sequence[Curve], axis: LoadAxis, metric: str, percent: str
) -> list[Point]:
    """One percentile of a metric in seconds, where the sample is large enough for it.

    Latencies of an open loop count from the schedule.
    """
    return [
        Point(curve.name, level, axis.read(level), value, select_interval(found, percent))
        for curve in curves
        for level in curve.levels
        if (found := level.find_metric(metric)) is not None
        and (value := found.percentiles.get(percent)) is not None
    ]


def list_moments(curve: Curve) -> Iterator[Moment]:
    """Yield the curve's timeline in bins of whole seconds, few enough to draw.

    The last second of a level is left out, because the level ends within it.
    """
    last = max(
        (_find_offset(curve, level) + len(level.timeline) for level in curve.levels), default=0
    )
    width = max(1, math.ceil(last / _TIMELINE_BINS))
    for number, level in enumerate(curve.levels):
        start = _find_offset(curve, level)
        seconds = level.timeline[:-1] or level.timeline
        for first in range(0, len(seconds), width):
            binned = seconds[first : first + width]
            latencies = [one.latency_p95 for one in binned if one.latency_p95 is not None]
            yield Moment(
                curve.name,
                f"{number}",
                start + binned[0].offset,
                len(binned),
                sum(one.output_tokens for one in binned) / len(binned),
                max(latencies, default=None),
                sum(one.in_flight for one in binned) / len(binned),
            )


def list_level_starts(curve: Curve) -> list[tuple[int, Level]]:
    """Seconds from the start of the run to each level."""
    return [(_find_offset(curve, level), level) for level in curve.levels]


def _find_offset(curve: Curve, level: Level) -> int:
    return round((level.started_at - curve.started_at).total_seconds())
