"""The true timings of a load test, from the mock server's own notes."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maxgate.loadtest.messages import Peer, Progress
from maxgate.loadtest.mock_server.script import Script
from maxgate.loadtest.mock_server.server import Note, notes_of, responding
from maxgate.loadtest.options import Options
from maxgate.loadtest.session import Session
from maxgate.loadtest.worker_pool import fleet_of
from maxgate.results.distribution import ClientError
from maxgate.results.records import Records
from maxgate.results.report import Level
from maxgate.results.statistics import percentile

Values = NDArray[np.float64]


class Silent:
    """A screen that shows nothing."""

    def phase(self, text: str, seconds: float | None) -> None:
        """See Screen."""

    def progress(self, progress: Progress) -> None:
        """See Screen."""


@dataclass(frozen=True)
class Run:
    """One level against the mock server, and the server's notes."""

    level: Level
    records: Records
    notes: Mapping[tuple[int, int], Note]


async def run_scripted(script: Script, options: Options) -> Run:
    """Run the first level of these options through the whole load test."""
    async with responding(script) as url, fleet_of(options.processes) as fleet:
        session = Session(options, [Peer(url=url, model="scripted")], fleet, Silent())
        await session.run()
        notes = await notes_of(url)
    return Run(session.findings.levels[0], session.findings.records[0], notes)


def truth(run: Run, *, from_departure: bool = False) -> dict[str, Values]:
    """Return the server's own timings of the measured and completed requests, by metric.

    `from_departure` counts from when the client sent instead of when the server received, for a
    server that stalls and does not read.
    """
    records = run.records
    chosen = (records["error"] == 0) & (records["warmup"] == 0)
    started = records.select(chosen)
    offset = _clock_offset(run)
    found: dict[str, list[float]] = {m: [] for m in ("ttft", "latency", "tpot", "chunk_gap")}
    for row in range(len(started)):
        note = run.notes[int(started["index"][row]), int(started["turn"][row])]
        begin = started["sent"][row] + offset if from_departure else note.received
        writes = np.array(note.writes)
        found["ttft"].append(float(writes[0] - begin))
        found["latency"].append(float(writes[-1] - begin))
        tokens = int(started["output_tokens"][row])
        if tokens > 1 and len(writes) > 1:
            found["tpot"].append(float(writes[-1] - writes[0]) / (tokens - 1))
        found["chunk_gap"] += np.diff(writes).tolist()
    return {metric: np.array(values) for metric, values in found.items()}


def _clock_offset(run: Run) -> float:
    """Return the start of the level on the machine's monotonic clock.

    The fastest transfer from client to server counts as instantaneous, which is right to about
    50 us.
    """
    records = run.records
    ways = [
        run.notes[int(i), int(t)].received - sent
        for i, t, sent in zip(records["index"], records["turn"], records["sent"], strict=True)
        if (int(i), int(t)) in run.notes
    ]
    return min(ways)


@dataclass(frozen=True)
class Finding:
    """A number of the report beside the true value, in seconds."""

    metric: str
    statistic: str
    measured: float
    true: float
    error_bar: float

    @property
    def within_error_bar(self) -> bool:
        """Whether the error is within the error bar printed beside it."""
        return abs(self.measured - self.true) <= self.error_bar

    @property
    def within_limits(self) -> bool:
        """Whether the error is at most 1 % or 0.5 ms."""
        return abs(self.measured - self.true) <= max(0.0005, 0.01 * abs(self.true))


def findings(run: Run, true: Mapping[str, Values]) -> list[Finding]:
    """Compare mean and percentiles of every metric with a true value."""
    made = []
    for metric, values in true.items():
        distribution = run.level.metrics.get(metric)
        if distribution is None or not distribution.count or not len(values):
            continue
        own = distribution.client_error
        ordered = np.sort(values)
        if distribution.mean is not None:
            made.append(Finding(metric, "mean", distribution.mean, float(values.mean()), _bar(own)))
        for key, measured in distribution.percentiles.items():
            expected = percentile(ordered, float(key))
            if measured is not None and expected is not None:
                made.append(Finding(metric, f"P{key}", measured, expected, _bar(own, key)))
    return made


def _bar(error: ClientError | None, key: str = "50") -> float:
    return float("nan") if error is None else error.at(key)
