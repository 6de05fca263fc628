"""Compute the report of one level from its raw records."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import numpy as np

from maxgate.loadtest.analysis.error_bounds import (
    Bounds,
    chunk_gap_bounds,
    error_bounds,
    request_bounds,
)
from maxgate.loadtest.analysis.metrics import (
    PER_REQUEST,
    SCHEDULED,
    STREAMED,
    Values,
    chunk_gaps,
    count_in_flight,
    count_output_tokens,
    succeeded,
    unfinished,
)
from maxgate.loadtest.analysis.targets import meets_objectives
from maxgate.loadtest.analysis.timeline import build_timeline
from maxgate.loadtest.client.limits import LOCAL_FAILURES
from maxgate.results.distribution import ClientError, Distribution, Interval
from maxgate.results.records import Records
from maxgate.results.report import (
    Chunks,
    Client,
    InFlight,
    Level,
    Requests,
    Side,
    Throughput,
    Tokens,
)
from maxgate.results.statistics import bootstrap, bootstrap_interval, percentile, row_means
from maxgate.results.summary import summarize

_STALL_SECONDS: Final = 0.3
"""Readers notice a pause of this length in running text."""

_MAX_CPU: Final = 0.9
"""Share of a core above which a worker process is the bottleneck."""

_MAX_LATENESS: Final = 0.01
"""Maximum delay of a request, in seconds."""


@dataclass(frozen=True)
class LevelPlan:
    """Everything about a level that its records do not tell."""

    name: str
    scenario: str
    side: Side
    started_at: datetime
    wall: float
    cpu: float | None
    stream: bool
    scheduled: bool
    concurrency: int | None = None
    rate: float | None = None
    objectives: Mapping[str, float] = field(default_factory=dict)
    client_errors: Mapping[str, ClientError] = field(default_factory=dict)
    seed: int = 0
    lag: float | None = None
    error_messages: Mapping[str, str] = field(default_factory=dict)


def build_level(plan: LevelPlan, level_records: Records) -> Level:
    """The report of one side; `level_records` also hold the other side and the warm-up."""
    side = level_records.select(level_records["side"] == (1 if plan.side == "baseline" else 0))
    records = side.select(side["warmup"] == 0)
    ok = records.select(succeeded(records))
    window = 0.0
    if len(records):
        window = float(np.nanmax(records["ended"]) - np.nanmin(records["sent"]))
    return Level(
        name=plan.name,
        scenario=plan.scenario,
        side=plan.side,
        concurrency=plan.concurrency,
        rate=plan.rate,
        started_at=plan.started_at,
        wall_seconds=plan.wall,
        window_seconds=window,
        requests=_count_requests(records, plan),
        in_flight=_measure_in_flight(level_records, plan),
        tokens=_count_tokens(ok),
        throughput=_measure_throughput(records, window, plan),
        chunks=_count_chunks(ok) if plan.stream else None,
        metrics=_measure_metrics(records, ok, plan),
        timeline=build_timeline(side, stream=plan.stream),
        client=_assess_client(level_records, plan),
    )


def _count_requests(records: Records, plan: LevelPlan) -> Requests:
    ok, not_finished = succeeded(records), unfinished(records)
    failed = ~ok & ~not_finished
    codes, counts = np.unique(records["error"][failed], return_counts=True)
    errors = {records.errors[int(k)]: int(n) for k, n in zip(codes, counts, strict=True)}
    met = meets_objectives(records, plan.objectives, scheduled=plan.scheduled)
    indexes = np.unique(records["index"]) if records["turn"].any() else None
    return Requests(
        attempted=int((~not_finished).sum()),
        succeeded=int(ok.sum()),
        failed=int(failed.sum()),
        unfinished=int(not_finished.sum()),
        good=int(met.sum()) if plan.objectives else None,
        errors=dict(sorted(errors.items(), key=lambda item: -item[1])),
        conversations=None if indexes is None else len(indexes),
        error_messages={k: plan.error_messages[k] for k in errors if k in plan.error_messages},
    )


def _measure_in_flight(records: Records, plan: LevelPlan) -> InFlight:
    sent = records["sent"]
    series = count_in_flight(sent, records["ended"])
    # Up to the last departure only: afterwards the load runs out.
    first, last = (float(sent.min()), float(sent.max())) if len(sent) else (0.0, 0.0)
    return InFlight(
        configured=plan.concurrency, mean=series.mean(first, last), max=series.maximum()
    )


def _count_tokens(ok: Records) -> Tokens:
    known = ok["output_tokens"] >= 0
    inputs, cached = ok["input_tokens"], ok["cached_tokens"]
    return Tokens(
        input=int(inputs[inputs >= 0].sum()) if (inputs >= 0).any() else None,
        cached=int(cached[cached >= 0].sum()) if (cached >= 0).any() else None,
        output=int(count_output_tokens(ok).sum()),
        counted_by="usage" if known.all() else "mixed" if known.any() else "chunks",
    )


def _measure_throughput(records: Records, window: float, plan: LevelPlan) -> Throughput:
    """Successful requests, tokens and chunks per second of the window."""
    ok = records.select(succeeded(records))
    per_second = 1 / window if window > 0 else 0.0
    inputs = ok["input_tokens"]
    met = meets_objectives(records, plan.objectives, scheduled=plan.scheduled)
    tokens = count_output_tokens(ok).astype(np.float64)
    input_tokens = float(inputs[inputs >= 0].sum()) * per_second if (inputs >= 0).any() else None
    return Throughput(
        requests=len(ok) * per_second,
        requests_interval=_estimate_interval(ok, np.ones(len(ok)), window, plan),
        good_requests=int(met.sum()) * per_second if plan.objectives else None,
        input_tokens=input_tokens,
        output_tokens=float(tokens.sum()) * per_second,
        output_tokens_interval=_estimate_interval(ok, tokens, window, plan),
        chunks=float(ok["chunks"].sum()) * per_second,
    )


def _estimate_interval(
    ok: Records, weights: Values, window: float, plan: LevelPlan
) -> Interval | None:
    """The interval of the mean per second; None below five full seconds."""
    by_second = _count_completions(ok, weights, window)
    if len(by_second) < 5:
        return None
    rng = np.random.default_rng([plan.seed, 3])
    return bootstrap_interval(bootstrap(by_second, row_means, rng))


def _count_completions(ok: Records, weights: Values, window: float) -> Values:
    """The weights of the requests completed in each full second of the window."""
    if not len(ok) or window < 1:
        return np.empty(0)
    begin = float(ok["sent"].min())
    edges = begin + np.arange(int(window) + 1)
    counts: Values = np.histogram(ok["ended"], edges, weights=weights)[0].astype(np.float64)
    return counts


def _count_chunks(ok: Records) -> Chunks:
    known = ok["output_tokens"] >= 0
    counted = int(ok["chunks"][known].sum())
    return Chunks(
        count=int(ok["chunks"].sum()),
        tokens_per_chunk=int(ok["output_tokens"][known].sum()) / counted if counted else None,
        shared_reads=int(ok["shared"].sum()),
        stalls=int((chunk_gaps(ok) > _STALL_SECONDS).sum()),
        stall_seconds=_STALL_SECONDS,
    )


def _measure_metrics(records: Records, ok: Records, plan: LevelPlan) -> dict[str, Distribution]:
    failures = int((~succeeded(records) & ~unfinished(records)).sum())
    rng = np.random.default_rng([plan.seed, 2])
    found = {}
    for metric, measure in PER_REQUEST.items():
        if (metric in STREAMED and not plan.stream) or (metric in SCHEDULED and not plan.scheduled):
            continue
        values = measure(ok)
        known = ~np.isnan(values)
        values = values[known]
        too_large, too_small = request_bounds(metric, ok)
        missing = failures if metric not in {"connect", "output_length", "input_length"} else 0
        error = _client_error(plan, metric, values, (too_large[known], too_small[known]))
        found[metric] = summarize(metric, values, failures=missing, client_error=error, rng=rng)
    if plan.stream:
        gaps = chunk_gaps(ok)
        error = _client_error(plan, "chunk_gap", gaps, chunk_gap_bounds(ok))
        found["chunk_gap"] = summarize("chunk_gap", gaps, client_error=error, rng=rng)
    return found


def _client_error(
    plan: LevelPlan, metric: str, values: Values, bounds: Bounds
) -> ClientError | None:
    error = plan.client_errors.get(metric)
    if error is None:
        return None
    return error.model_copy(update={"held": error_bounds(values, bounds)})


def _assess_client(records: Records, plan: LevelPlan) -> Client:
    """Whether the load generator was the bottleneck, and why."""
    late = records["sent"] - records["scheduled"]
    late_p99 = percentile(np.sort(late[~np.isnan(late)]), 99)
    max_lateness = max(_MAX_LATENESS, 0.1 / (plan.rate or 10))
    reason = next((LOCAL_FAILURES[k] for k in records.errors if k in LOCAL_FAILURES), None)
    if reason is not None:
        pass  # nothing else explains those failures
    elif plan.cpu is not None and plan.cpu > _MAX_CPU:
        reason = f"a worker process used {plan.cpu:.0%} of its core; raise --processes"
    elif plan.scheduled and late_p99 is not None and late_p99 > max_lateness:
        reason = f"1% of the requests left more than {late_p99 * 1000:.1f} ms late"
    return Client(
        cpu=plan.cpu,
        late_p99=late_p99,
        lag_p99=plan.lag,
        limited=reason is not None,
        reason=reason,
    )
