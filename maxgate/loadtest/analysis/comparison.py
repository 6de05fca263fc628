"""`--compare OLD.json`: whether it got worse."""

from collections.abc import Collection
from typing import Final

import numpy as np
from numpy.typing import NDArray

from maxgate.errors import ConfigurationError
from maxgate.loadtest.analysis.metrics import PER_REQUEST, succeeded
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

Values = NDArray[np.float64]

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
    """The change of one statistic of two independent samples, each in order of time."""
    percent = float(statistic[1:]) if statistic != "mean" else 50.0
    of: Statistic = row_means if statistic == "mean" else row_percentile(percent)
    # An interval of a percentile needs several values beyond it, at both ends of the interval.
    needed = 10 * min_sample_size(percent)
    if min(len(before), len(after)) < needed:
        why = f"needs {needed} values on each side, has {min(len(before), len(after))}"
        return unclear_change(metric, statistic, level, "s", why)
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
    """The same of pairs: `before[i]` and `after[i]` are the same request on two servers.

    The median is that of the differences; other percentiles are differences of percentiles. Each
    is the mean of two, one from the pairs in which `after` was asked first and one from the others:
    what the second of a pair gains from the first (a warm cache) is in both with opposite signs
    (a crossover design in two periods; Jones and Kenward 2014, chapter 2).
    """
    percent = float(statistic[1:]) if statistic != "mean" else 50.0
    of: Statistic = row_means if statistic == "mean" else row_percentile(percent)
    orders = [after_first, ~after_first]
    counts = [int(order.sum()) for order in orders]
    needed = max(min_sample_size(percent), 5)
    if min(counts) < needed:
        why = f"needs {needed} pairs in each order, has {counts[0]} and {counts[1]}"
        return unclear_change(metric, statistic, level, "s", why)

    def difference(rows: Values) -> Values:
        left, right = rows[..., 0], rows[..., 1]
        return of(right - left) if statistic in {"mean", "p50"} else of(right) - of(left)

    # Rows of two, so that a resample keeps the pairs.
    together = [np.stack([before[order], after[order]], axis=1) for order in orders]
    draws = np.mean([bootstrap(rows, difference, rng, _RESAMPLES) for rows in together], axis=0)
    value = float(np.mean([difference(rows[None, :])[0] for rows in together]))
    old = float(of(before[None, :])[0])
    interval = bootstrap_interval(draws, confidence)
    return judge_change(metric, statistic, level, "s", old, old + value, interval)


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
    confidence = bonferroni_confidence(len(pairs) * (len(_STATISTICS) + 2))
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
        return unclear_change(
            metric, statistic, named, "s", "one of the reports has no interval for it"
        )
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
        return [unclear_change("throughput", "rate", named, "requests/s", why), errors]
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
