"""One level's raw records to its part of the report."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

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
    output_tokens,
    succeeded,
    unfinished,
)
from maxgate.loadtest.analysis.targets import good
from maxgate.loadtest.analysis.timeline import timeline
from maxgate.results.distribution import ClientError, Distribution
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

STALL_SECONDS = 0.3
"""A reader notices a pause of this length in running text."""


def count_tokens(ok: Records) -> Tokens:
    """Of the requests that were answered."""
    known = ok["output_tokens"] >= 0
    inputs, cached = ok["input_tokens"], ok["cached_tokens"]
    counted = "usage" if known.all() else "mixed" if known.any() else "chunks"
    return Tokens(
        input=int(inputs[inputs >= 0].sum()) if (inputs >= 0).any() else None,
        cached=int(cached[cached >= 0].sum()) if (cached >= 0).any() else None,
        output=int(output_tokens(ok).sum()),
        counted_by=counted,
    )


def count_chunks(ok: Records) -> Chunks:
    """The same."""
    pieces, known = int(ok["chunks"].sum()), ok["output_tokens"] >= 0
    counted = int(ok["chunks"][known].sum())
    return Chunks(
        count=pieces,
        tokens_per_chunk=int(ok["output_tokens"][known].sum()) / counted if counted else None,
        shared_reads=int(ok["shared"].sum()),
        stalls=int((chunk_gaps(ok) > STALL_SECONDS).sum()),
        stall_seconds=STALL_SECONDS,
    )


_BUSY = 0.9  # of one core
_LATE = 0.01  # seconds


def assess_client(
    records: Records, cpu: float | None, lag: float | None, *, scheduled: bool, rate: float | None
) -> Client:
    """The verdict and its reason, as a sentence."""
    late = records["sent"] - records["scheduled"]
    late_p99 = percentile(np.sort(late[~np.isnan(late)]), 99)
    reason = None
    if cpu is not None and cpu > _BUSY:
        reason = f"a process of the load used {cpu:.0%} of its core; use --processes"
    elif scheduled and late_p99 is not None and late_p99 > max(_LATE, 0.1 / (rate or 10)):
        reason = f"1 % of the requests left more than {late_p99 * 1000:.1f} ms late"
    return Client(
        cpu=cpu, late_p99=late_p99, lag_p99=lag, limited=reason is not None, reason=reason
    )


def measure_throughput(
    records: Records, window: float, *, objectives: Mapping[str, float], scheduled: bool, seed: int
) -> Throughput:
    """Per second of the window, of what was answered; `good` is what met its objectives."""
    ok = records.select(succeeded(records))
    per = 1 / window if window > 0 else 0.0
    inputs = ok["input_tokens"]
    met = good(records, objectives, scheduled=scheduled)
    by_second = _finished_by_second(ok, window)
    rng = np.random.default_rng([seed, 3])
    draws = bootstrap(by_second, row_means, rng) if len(by_second) >= 5 else np.empty(0)
    return Throughput(
        requests=len(ok) * per,
        requests_interval=bootstrap_interval(draws),
        good_requests=int(met.sum()) * per if objectives else None,
        input_tokens=float(inputs[inputs >= 0].sum()) * per if (inputs >= 0).any() else None,
        output_tokens=float(output_tokens(ok).sum()) * per,
        chunks=float(ok["chunks"].sum()) * per,
    )


def _finished_by_second(ok: Records, window: float) -> Values:
    if not len(ok) or window < 1:
        return np.empty(0)
    begin = float(ok["sent"].min())
    edges = begin + np.arange(int(window) + 1)
    counts: Values = np.histogram(ok["ended"], edges)[0].astype(np.float64)
    return counts


@dataclass(frozen=True)
class LevelPlan:
    """What is known of a level before its records."""

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


def level_report(plan: LevelPlan, everything: Records) -> Level:
    """`everything` holds both sides and the warm-up; what was asked for is picked out of it."""
    side = everything["side"] == (1 if plan.side == "baseline" else 0)
    records = everything.select(side & (everything["warmup"] == 0))
    ok = records.select(succeeded(records))
    window = _window(records)
    return Level(
        name=plan.name,
        scenario=plan.scenario,
        side=plan.side,
        concurrency=plan.concurrency,
        rate=plan.rate,
        started_at=plan.started_at,
        wall_seconds=plan.wall,
        window_seconds=window,
        requests=_requests(records, plan),
        in_flight=_in_flight(everything, plan),
        tokens=count_tokens(ok),
        throughput=measure_throughput(
            records,
            window,
            objectives=plan.objectives,
            scheduled=plan.scheduled,
            seed=plan.seed,
        ),
        chunks=count_chunks(ok) if plan.stream else None,
        metrics=_metrics(records, ok, plan),
        timeline=timeline(everything.select(side), stream=plan.stream),
        client=assess_client(
            everything, plan.cpu, plan.lag, scheduled=plan.scheduled, rate=plan.rate
        ),
    )


def _window(records: Records) -> float:
    if not len(records):
        return 0.0
    return float(np.nanmax(records["ended"]) - np.nanmin(records["sent"]))


def _requests(records: Records, plan: LevelPlan) -> Requests:
    ok, cut = succeeded(records), unfinished(records)
    failed = ~ok & ~cut
    kinds, counts = np.unique(records["error"][failed], return_counts=True)
    errors = {records.errors[int(k)]: int(n) for k, n in zip(kinds, counts, strict=True)}
    met = good(records, plan.objectives, scheduled=plan.scheduled)
    return Requests(
        attempted=int((~cut).sum()),
        succeeded=int(ok.sum()),
        failed=int(failed.sum()),
        unfinished=int(cut.sum()),
        good=int(met.sum()) if plan.objectives else None,
        errors=dict(sorted(errors.items(), key=lambda item: -item[1])),
    )


def _in_flight(records: Records, plan: LevelPlan) -> InFlight:
    flight = count_in_flight(records["sent"], records["ended"])
    sent = records["sent"]
    # Until the last departure: after it the load runs out, which is nobody's choice.
    first, last = (float(sent.min()), float(sent.max())) if len(sent) else (0.0, 0.0)
    mean = flight.mean(first, last)
    return InFlight(configured=plan.concurrency, mean=mean, max=flight.maximum())


def _metrics(records: Records, ok: Records, plan: LevelPlan) -> dict[str, Distribution]:
    failures = int((~succeeded(records) & ~unfinished(records)).sum())
    rng = np.random.default_rng([plan.seed, 2])
    found = {}
    for metric, of in PER_REQUEST.items():
        if (metric in STREAMED and not plan.stream) or (metric in SCHEDULED and not plan.scheduled):
            continue
        values = of(ok)
        known = ~np.isnan(values)
        values = values[known]
        too_large, too_small = request_bounds(metric, ok)
        missing = failures if metric not in {"connect", "output_length", "input_length"} else 0
        error = _error(plan, metric, values, (too_large[known], too_small[known]))
        found[metric] = summarize(metric, values, failures=missing, client_error=error, rng=rng)
    if plan.stream:
        gaps = chunk_gaps(ok)
        error = _error(plan, "chunk_gap", gaps, chunk_gap_bounds(ok))
        found["chunk_gap"] = summarize("chunk_gap", gaps, client_error=error, rng=rng)
    return found


def _error(plan: LevelPlan, metric: str, values: Values, room: Bounds) -> ClientError | None:
    error = plan.client_errors.get(metric)
    return error if error is None else error.model_copy(update={"held": error_bounds(values, room)})
