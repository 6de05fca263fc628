"""One level's raw records to its part of the report."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from maxgate.tools.loadtest.analysis.in_flight import flight_of
from maxgate.tools.loadtest.analysis.limits import client_of
from maxgate.tools.loadtest.analysis.measures import (
    PER_REQUEST,
    SCHEDULED,
    STREAMED,
    chunk_gaps,
    output_tokens,
    succeeded,
    unfinished,
)
from maxgate.tools.loadtest.analysis.objectives import good
from maxgate.tools.loadtest.analysis.timeline import timeline
from maxgate.tools.results.distribution import ClientError, Distribution
from maxgate.tools.results.level import (
    Chunks,
    InFlight,
    Level,
    Requests,
    Side,
    Throughput,
    Tokens,
)
from maxgate.tools.results.records import Records
from maxgate.tools.results.statistics import interval_of, mean_of, resampled
from maxgate.tools.results.summary import summarise

Values = NDArray[np.float64]

STALL_SECONDS = 0.3
"""A reader notices a pause of this length in running text."""


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
        tokens=_tokens(ok),
        throughput=_throughput(records, ok, window, plan),
        chunks=_chunks(ok) if plan.stream else None,
        metrics=_metrics(records, ok, plan),
        timeline=timeline(everything.select(side), stream=plan.stream),
        client=client_of(everything, plan.cpu, plan.lag, scheduled=plan.scheduled, rate=plan.rate),
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
    flight = flight_of(records["sent"], records["ended"])
    sent = records["sent"]
    # Until the last departure: after it the load runs out, which is nobody's choice.
    first, last = (float(sent.min()), float(sent.max())) if len(sent) else (0.0, 0.0)
    mean = flight.mean(first, last)
    return InFlight(configured=plan.concurrency, mean=mean, max=flight.maximum())


def _tokens(ok: Records) -> Tokens:
    known = ok["output_tokens"] >= 0
    inputs, cached = ok["input_tokens"], ok["cached_tokens"]
    counted = "usage" if known.all() else "mixed" if known.any() else "chunks"
    return Tokens(
        input=int(inputs[inputs >= 0].sum()) if (inputs >= 0).any() else None,
        cached=int(cached[cached >= 0].sum()) if (cached >= 0).any() else None,
        output=int(output_tokens(ok).sum()),
        counted_by=counted,
    )


def _throughput(records: Records, ok: Records, window: float, plan: LevelPlan) -> Throughput:
    per = 1 / window if window > 0 else 0.0
    inputs = ok["input_tokens"]
    met = good(records, plan.objectives, scheduled=plan.scheduled)
    by_second = _finished_by_second(ok, window)
    rng = np.random.default_rng([plan.seed, 3])
    draws = resampled(by_second, mean_of, rng) if len(by_second) >= 5 else np.empty(0)
    return Throughput(
        requests=len(ok) * per,
        requests_interval=interval_of(draws),
        good_requests=int(met.sum()) * per if plan.objectives else None,
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


def _chunks(ok: Records) -> Chunks:
    pieces, known = int(ok["chunks"].sum()), ok["output_tokens"] >= 0
    counted = int(ok["chunks"][known].sum())
    return Chunks(
        count=pieces,
        tokens_per_chunk=int(ok["output_tokens"][known].sum()) / counted if counted else None,
        shared_reads=int(ok["shared"].sum()),
        stalls=int((chunk_gaps(ok) > STALL_SECONDS).sum()),
        stall_seconds=STALL_SECONDS,
    )


def _metrics(records: Records, ok: Records, plan: LevelPlan) -> dict[str, Distribution]:
    failures = int((~succeeded(records) & ~unfinished(records)).sum())
    rng = np.random.default_rng([plan.seed, 2])
    found = {}
    for metric, of in PER_REQUEST.items():
        if (metric in STREAMED and not plan.stream) or (metric in SCHEDULED and not plan.scheduled):
            continue
        values = of(ok)
        values = values[~np.isnan(values)]
        missing = failures if metric not in {"connect", "output_length", "input_length"} else 0
        error = plan.client_errors.get(metric)
        found[metric] = summarise(metric, values, failures=missing, client_error=error, rng=rng)
    if plan.stream:
        error = plan.client_errors.get("chunk_gap")
        found["chunk_gap"] = summarise("chunk_gap", chunk_gaps(ok), client_error=error, rng=rng)
    return found
