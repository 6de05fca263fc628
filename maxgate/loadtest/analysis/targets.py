"""Objectives for goodput, and targets that a level passes or fails."""

from collections.abc import Mapping
from typing import Final, Literal

import numpy as np

from maxgate.loadtest.analysis.metrics import PER_REQUEST, Mask, Values, chunk_gaps, succeeded
from maxgate.results.distribution import Distribution
from maxgate.results.records import Records
from maxgate.results.report import Grade, Level
from maxgate.results.statistics import min_sample_size

OBJECTIVE_METRICS: Final = (
    "ttft",
    "tpot",
    "latency",
    "response_ttft",
    "response_latency",
    "chunk_gap",
)

_TARGET_METRICS: Final = ("ttft", "tpot", "latency")
_TARGET_PERCENTILES: Final = ("50", "90", "95", "99", "99.9")


def meets_objectives(records: Records, objectives: Mapping[str, float], *, scheduled: bool) -> Mask:
    """Which requests succeeded within every objective.

    With a schedule, `ttft` and `latency` count from the scheduled departure, as users experience
    them. The `chunk_gap` objective limits the longest gap of a request.
    """
    met = succeeded(records)
    for metric, limit in objectives.items():
        if metric == "chunk_gap":
            met &= _longest_gaps(records) <= limit
            continue
        base = metric.removeprefix("response_")
        name = f"response_{base}" if scheduled and base in {"ttft", "latency"} else base
        value = PER_REQUEST[name](records)
        # An undefined value (the time per token of a single token) cannot miss its objective.
        met &= np.isnan(value) | (value <= limit)
    return met


def _longest_gaps(records: Records) -> Values:
    longest = np.zeros(len(records))
    counts = np.maximum(records["chunks"] - 1, 0)
    np.maximum.at(longest, np.repeat(np.arange(len(records)), counts), chunk_gaps(records))
    return longest


def grade(level: Level, targets: Mapping[str, float]) -> list[Grade]:
    """One grade per target. A failed request counts as slower than any limit."""
    return [_grade_target(level, target, limit) for target, limit in targets.items()]


def split_percentile_target(target: str) -> tuple[str, str] | None:
    """Metric and percentile of a target such as `p95` or `ttft_p99`; None for any other."""
    metric, _, key = target.rpartition("_p") if "_p" in target else ("latency", "", target[1:])
    known = metric in _TARGET_METRICS and key in _TARGET_PERCENTILES
    return (metric, key) if known and ("_p" in target or target.startswith("p")) else None


def _grade_target(level: Level, target: str, limit: float) -> Grade:
    value, count, unit = _measure(level, target)
    better: Literal["lower", "higher"] = "higher" if target == "throughput" else "lower"
    verdict, reason = _judge(level, value, count, limit, unit, better)
    return Grade(
        target=target,
        level=f"{level.scenario}, {level.name}",
        limit=limit,
        better=better,
        value=value,
        unit=unit,
        count=count or level.requests.attempted,
        verdict=verdict,
        reason=reason,
    )


def _judge(
    level: Level,
    value: float | None,
    count: int | None,
    limit: float,
    unit: str,
    better: Literal["lower", "higher"],
) -> tuple[Literal["pass", "fail", "unclear"], str]:
    if level.client.limited:
        return "unclear", f"the load generator was the bottleneck: {level.client.reason}"
    if count is None:
        return "unclear", f"too few requests ({level.requests.attempted})"
    if value is None:
        share = level.requests.failed / max(1, level.requests.attempted)
        return "fail", f"{share:.1%} of the requests failed, so the percentile was never reached"
    met = value >= limit if better == "higher" else value <= limit
    reason = f"{_format(value, unit)} (limit {_format(limit, unit)}), {count} requests"
    return "pass" if met else "fail", reason


def _measure(level: Level, target: str) -> tuple[float | None, int | None, str]:
    """Value, sample size and unit; the size is None if it is too small for a verdict."""
    attempted = level.requests.attempted
    if target == "throughput":
        return level.throughput.requests, attempted or None, "requests/s"
    if target == "error_rate":
        rate = level.requests.failed / attempted if attempted else None
        return rate, attempted or None, "share"
    metric, key = split_percentile_target(target) or ("latency", "50")
    found = _find_distribution(level, metric)
    if found is None or attempted < min_sample_size(float(key)):
        return None, None, "s"
    return found.including_failures.get(key), attempted, "s"


def _find_distribution(level: Level, metric: str) -> Distribution | None:
    return level.metrics.get(f"response_{metric}") or level.metrics.get(metric)


def _format(value: float, unit: str) -> str:
    if unit == "s":
        return f"{value * 1000:.0f} ms"
    return f"{value:.2%}" if unit == "share" else f"{value:.1f} {unit}"
