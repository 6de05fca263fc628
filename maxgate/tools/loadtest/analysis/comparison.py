"""`--compare OLD.json`: whether it got worse."""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from maxgate.errors import ConfigurationError
from maxgate.tools.loadtest.analysis.changes import latency_change
from maxgate.tools.loadtest.analysis.measures import PER_REQUEST, succeeded
from maxgate.tools.results.changes import (
    confidence_of,
    interval_change,
    rate_change,
    unclear,
)
from maxgate.tools.results.level import Level
from maxgate.tools.results.records import Records
from maxgate.tools.results.report import Report
from maxgate.tools.results.run import LoadKind
from maxgate.tools.results.verdict import Change

Key = tuple[str, str]
"""Scenario and name of a level."""

_STATISTICS = ("p50", "p95", "p99")


def check_comparable(
    old: Report, *, fingerprint: str, stream: bool, kind: LoadKind, levels: Collection[Key]
) -> None:
    """Raises ConfigurationError when it did other work, or under another load, than this."""
    differences = [
        f"{name} was {before!r} and is {after!r}"
        for name, before, after in (
            ("the workload's fingerprint", old.workload.fingerprint[:12], fingerprint[:12]),
            ("streaming", old.workload.stream, stream),
            ("the kind of load", old.load.kind, kind),
        )
        if before != after
    ]
    if not differences and not any(_key(level) in levels for level in old.levels):
        differences = ["no level of load is in both"]
    if differences:
        raise ConfigurationError("--compare: different workloads: " + "; ".join(differences))


def compare(
    old: Report,
    new: Report,
    old_records: list[Records] | None,
    new_records: list[Records] | None,
    seed: int,
) -> list[Change]:
    """The changes of every level that both have; from raw records where both have them."""
    rng = np.random.default_rng([seed, 5])
    pairs = _common(old, new)
    confidence = confidence_of(len(pairs) * (len(_STATISTICS) + 2))
    found = []
    for before, after in pairs:
        values = _values(old, before, old_records), _values(new, after, new_records)
        found += _latencies(before, after, *values, confidence, rng)
        found += _rates(before, after, confidence)
    return found


def _key(level: Level) -> Key:
    return level.scenario, level.name


def _common(old: Report, new: Report) -> list[tuple[Level, Level]]:
    there = {_key(level): level for level in old.levels if level.side == "target"}
    return [
        (there[_key(level)], level)
        for level in new.levels
        if level.side == "target" and _key(level) in there
    ]


def _named(level: Level) -> str:
    return f"{level.scenario}, {level.name}"


def _metric(level: Level) -> str:
    return "response_latency" if "response_latency" in level.metrics else "latency"


def _values(
    report: Report, level: Level, records: list[Records] | None
) -> NDArray[np.float64] | None:
    if records is None:
        return None
    keys = list(dict.fromkeys(_key(one) for one in report.levels))
    mine = records[keys.index(_key(level))]
    chosen = succeeded(mine) & (mine["warmup"] == 0) & (mine["side"] == 0)
    return PER_REQUEST[_metric(level)](mine.select(chosen))


def _latencies(
    before: Level,
    after: Level,
    old: NDArray[np.float64] | None,
    new: NDArray[np.float64] | None,
    confidence: float,
    rng: np.random.Generator,
) -> list[Change]:
    metric, named = _metric(after), _named(after)
    if old is not None and new is not None:
        return [
            latency_change(
                old,
                new,
                metric=metric,
                statistic=statistic,
                level=named,
                confidence=confidence,
                rng=rng,
            )
            for statistic in _STATISTICS
        ]
    return [_from_intervals(before, after, metric, key, confidence) for key in ("50", "95", "99")]


def _from_intervals(
    before: Level, after: Level, metric: str, key: str, confidence: float
) -> Change:
    named, statistic = _named(after), f"p{key}"
    left, right = before.metrics[metric], after.metrics[metric]
    old, new = left.percentiles.get(key), right.percentiles.get(key)
    old_interval, new_interval = left.intervals.get(key), right.intervals.get(key)
    if old is None or new is None or old_interval is None or new_interval is None:
        return unclear(metric, statistic, named, "s", "one of the reports has no interval for it")
    return interval_change(
        (old, old_interval),
        (new, new_interval),
        metric=metric,
        statistic=statistic,
        level=named,
        unit="s",
        confidence=confidence,
    )


def _rates(before: Level, after: Level, confidence: float) -> list[Change]:
    named = _named(after)
    counts = [(one.requests.failed, one.requests.attempted) for one in (before, after)]
    errors = rate_change(counts[0], counts[1], level=named, confidence=confidence)
    left, right = before.throughput, after.throughput
    if left.requests_interval is None or right.requests_interval is None:
        why = "needs five seconds or more of load"
        return [unclear("throughput", "rate", named, "requests/s", why), errors]
    throughput = interval_change(
        (left.requests, left.requests_interval),
        (right.requests, right.requests_interval),
        metric="throughput",
        statistic="rate",
        level=named,
        unit="requests/s",
        confidence=confidence,
        better="higher",
    )
    return [throughput, errors]
