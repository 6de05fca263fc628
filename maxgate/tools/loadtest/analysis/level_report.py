"""One level's raw records to its part of the report."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from maxgate.tools.loadtest.analysis.held_up import Room, bars, room_of, room_of_gaps
from maxgate.tools.loadtest.analysis.in_flight import flight_of
from maxgate.tools.loadtest.analysis.limits import client_of
from maxgate.tools.loadtest.analysis.measures import (
    PER_REQUEST,
    SCHEDULED,
    STREAMED,
    Values,
    chunk_gaps,
    succeeded,
    unfinished,
)
from maxgate.tools.loadtest.analysis.objectives import good
from maxgate.tools.loadtest.analysis.output import chunks_of, tokens_of
from maxgate.tools.loadtest.analysis.throughput import throughput_of
from maxgate.tools.loadtest.analysis.timeline import timeline
from maxgate.tools.results.distribution import ClientError, Distribution
from maxgate.tools.results.level import (
    InFlight,
    Level,
    Requests,
    Side,
)
from maxgate.tools.results.records import Records
from maxgate.tools.results.summary import summarise


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
        tokens=tokens_of(ok),
        throughput=throughput_of(
            records,
            window,
            objectives=plan.objectives,
            scheduled=plan.scheduled,
            seed=plan.seed,
        ),
        chunks=chunks_of(ok) if plan.stream else None,
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
        too_large, too_small = room_of(metric, ok)
        missing = failures if metric not in {"connect", "output_length", "input_length"} else 0
        error = _error(plan, metric, values, (too_large[known], too_small[known]))
        found[metric] = summarise(metric, values, failures=missing, client_error=error, rng=rng)
    if plan.stream:
        gaps = chunk_gaps(ok)
        error = _error(plan, "chunk_gap", gaps, room_of_gaps(ok))
        found["chunk_gap"] = summarise("chunk_gap", gaps, client_error=error, rng=rng)
    return found


def _error(plan: LevelPlan, metric: str, values: Values, room: Room) -> ClientError | None:
    error = plan.client_errors.get(metric)
    return error if error is None else error.model_copy(update={"held": bars(values, room)})
