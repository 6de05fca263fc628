"""`--compare OLD.json`: test for changes against an earlier report."""

from collections.abc import Collection
from typing import Final

import numpy as np
from numpy.typing import NDArray

from maxgate.errors import ConfigurationError
from maxgate.loadtest.analysis.metrics import PER_REQUEST, Values, succeeded
from maxgate.results.changes import (
    bonferroni_confidence,
    interval_change,
    judge_change,
    rate_change,
    unclear_change,
)
from maxgate.results.records import Records
from maxgate.results.report import Change, Level, LoadKind, Report
from maxgate.results.statistics import (
    Statistic,
    bootstrap,
    bootstrap_interval,
    min_sample_size,
    row_means,
    row_percentile,
)

_RESAMPLES: Final = 2000


def latency_change(
    before: Values,
    after: Values,
    *,
    metric: str,
    statistic: str,
    level: str,
    confidence: float,
    rng: np.random.Generator,
) -> Change:
    """The change of one statistic between two independent samples, each in order of time."""
    percent = float(statistic[1:]) if statistic != "mean" else 50.0
    of: Statistic = row_means if statistic == "mean" else row_percentile(percent)
    # Both ends of a percentile's interval need several values beyond them.
    needed = 10 * min_sample_size(percent)
    if min(len(before), len(after)) < needed:
        reason = f"needs {needed} values in each run, has {min(len(before), len(after))}"
        return unclear_change(metric, statistic, level, "s", reason)
    draws = bootstrap(after, of, rng, _RESAMPLES) - bootstrap(before, of, rng, _RESAMPLES)
    old, new = float(of(before[None, :])[0]), float(of(after[None, :])[0])
    return judge_change(
        metric, statistic, level, "s", old, new, bootstrap_interval(draws, confidence)
    )


def paired_change(
    before: Values,
    after: Values,
    *,
    after_first: NDArray[np.bool_],
    metric: str,
    statistic: str,
    level: str,
    confidence: float,
    rng: np.random.Generator,
) -> Change:
    """The change between pairs: `before[i]` and `after[i]` are the same request on two servers.

    The median is that of the differences; other percentiles are differences of percentiles. Each
    is the mean over both orders of the pairs, so that the advantage of the second request (a warm
    cache) cancels out: a crossover design in two periods (Jones and Kenward 2014, chapter 2).
    """
    percent = float(statistic[1:]) if statistic != "mean" else 50.0
    of: Statistic = row_means if statistic == "mean" else row_percentile(percent)
    orders = [after_first, ~after_first]
    counts = [int(order.sum()) for order in orders]
    needed = max(min_sample_size(percent), 5)
    if min(counts) < needed:
        reason = f"needs {needed} pairs in each order, has {counts[0]} and {counts[1]}"
        return unclear_change(metric, statistic, level, "s", reason)

    def difference(rows: Values) -> Values:
        left, right = rows[..., 0], rows[..., 1]
        return of(right - left) if statistic in {"mean", "p50"} else of(right) - of(left)

    # Rows of two keep the pairs together in every resample.
    pairs = [np.stack([before[order], after[order]], axis=1) for order in orders]
    draws = np.mean([bootstrap(rows, difference, rng, _RESAMPLES) for rows in pairs], axis=0)
    value = float(np.mean([difference(rows[None, :])[0] for rows in pairs]))
    old = float(of(before[None, :])[0])
    interval = bootstrap_interval(draws, confidence)
    return judge_change(metric, statistic, level, "s", old, old + value, interval)


Key = tuple[str, str]
"""Scenario and name of a level."""

_STATISTICS = ("p50", "p95", "p99")


def check_comparable(
    old: Report, *, fingerprint: str, stream: bool, kind: LoadKind, levels: Collection[Key]
) -> None:
    """Raises ConfigurationError unless the old report has the same workload and load."""
    differences = [
        f"{name} was {before!r}, now {after!r}"
        for name, before, after in (
            ("workload fingerprint", old.workload.fingerprint[:12], fingerprint[:12]),
            ("streaming", old.workload.stream, stream),
            ("kind of load", old.load.kind, kind),
        )
        if before != after
    ]
    if not differences and not any(_key(level) in levels for level in old.levels):
        differences = ["no common level"]
    if differences:
        raise ConfigurationError("--compare: the workloads differ: " + "; ".join(differences))


def compare(
    old: Report,
    new: Report,
    old_records: list[Records] | None,
    new_records: list[Records] | None,
    seed: int,
) -> list[Change]:
    """The changes of every common level; from raw records if both runs kept them."""
    rng = np.random.default_rng([seed, 5])
    pairs = _match_levels(old, new)
    confidence = bonferroni_confidence(len(pairs) * (len(_STATISTICS) + 2))
    found = []
    for before, after in pairs:
        values = _read_values(old, before, old_records), _read_values(new, after, new_records)
        found += _compare_latencies(before, after, *values, confidence, rng)
        found += _compare_rates(before, after, confidence)
    return found


def _key(level: Level) -> Key:
    return level.scenario, level.name


def _match_levels(old: Report, new: Report) -> list[tuple[Level, Level]]:
    old_levels = {_key(level): level for level in old.levels if level.side == "target"}
    return [
        (old_levels[_key(level)], level)
        for level in new.levels
        if level.side == "target" and _key(level) in old_levels
    ]


def _title(level: Level) -> str:
    return f"{level.scenario}, {level.name}"


def _latency_metric(level: Level) -> str:
    return "response_latency" if "response_latency" in level.metrics else "latency"


def _read_values(report: Report, level: Level, records: list[Records] | None) -> Values | None:
    if records is None:
        return None
    keys = list(dict.fromkeys(_key(one) for one in report.levels))
    own = records[keys.index(_key(level))]
    measured = succeeded(own) & (own["warmup"] == 0) & (own["side"] == 0)
    return PER_REQUEST[_latency_metric(level)](own.select(measured))


def _compare_latencies(
    before: Level,
    after: Level,
    old: Values | None,
    new: Values | None,
    confidence: float,
    rng: np.random.Generator,
) -> list[Change]:
    metric, title = _latency_metric(after), _title(after)
    if old is not None and new is not None:
        return [
            latency_change(
                old,
                new,
                metric=metric,
                statistic=statistic,
                level=title,
                confidence=confidence,
                rng=rng,
            )
            for statistic in _STATISTICS
        ]
    return [
        _compare_intervals(before, after, metric, key, confidence) for key in ("50", "95", "99")
    ]


def _compare_intervals(
    before: Level, after: Level, metric: str, key: str, confidence: float
) -> Change:
    title, statistic = _title(after), f"p{key}"
    left, right = before.metrics.get(metric), after.metrics.get(metric)
    if left is None or right is None:
        return unclear_change(metric, statistic, title, "s", "one report has no such metric")
    old, new = left.percentiles.get(key), right.percentiles.get(key)
    old_interval, new_interval = left.intervals.get(key), right.intervals.get(key)
    if old is None or new is None or old_interval is None or new_interval is None:
        return unclear_change(
            metric, statistic, title, "s", "one report has no interval for this statistic"
        )
    return interval_change(
        (old, old_interval),
        (new, new_interval),
        metric=metric,
        statistic=statistic,
        level=title,
        unit="s",
        confidence=confidence,
    )


def _compare_rates(before: Level, after: Level, confidence: float) -> list[Change]:
    title = _title(after)
    counts = [(one.requests.failed, one.requests.attempted) for one in (before, after)]
    errors = rate_change(counts[0], counts[1], level=title, confidence=confidence)
    left, right = before.throughput, after.throughput
    if left.requests_interval is None or right.requests_interval is None:
        reason = "needs at least 5 s of load"
        return [unclear_change("throughput", "rate", title, "requests/s", reason), errors]
    throughput = interval_change(
        (left.requests, left.requests_interval),
        (right.requests, right.requests_interval),
        metric="throughput",
        statistic="rate",
        level=title,
        unit="requests/s",
        confidence=confidence,
        better="higher",
    )
    return [throughput, errors]
