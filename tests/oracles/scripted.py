"""True values of a load test, from the timestamps of the mock server."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from maxgate.loadtest.messages import Progress, Target
from maxgate.loadtest.mock_server.script import Script
from maxgate.loadtest.mock_server.server import (
    ServerTimestamps,
    fetch_timestamps,
    start_mock_server,
)
from maxgate.loadtest.options import Options
from maxgate.loadtest.session import Screen, Session
from maxgate.loadtest.worker_pool import start_worker_pool
from maxgate.results.distribution import ClientError
from maxgate.results.records import Records
from maxgate.results.report import Level
from maxgate.results.statistics import percentile

Values = NDArray[np.float64]


class SilentScreen(Screen):
    """Shows nothing."""

    @override
    def phase(self, text: str, seconds: float | None) -> None:
        pass

    @override
    def progress(self, progress: Progress) -> None:
        pass


@dataclass(frozen=True)
class Run:
    """One level against the mock server, and the timestamps of that server."""

    level: Level
    records: Records
    timestamps: Mapping[tuple[int, int], ServerTimestamps]


async def run_scripted(script: Script, options: Options) -> Run:
    """Run the first level of these options through the whole load test."""
    async with start_mock_server(script) as url, start_worker_pool(options.processes) as pool:
        session = Session(options, [Target(url=url, model="scripted")], pool, SilentScreen())
        await session.run()
        timestamps = await fetch_timestamps(url)
    return Run(session.results.levels[0], session.results.records[0], timestamps)


def truth(run: Run, *, from_departure: bool = False) -> dict[str, Values]:
    """True values of the measured, successful requests, by metric.

    `from_departure` counts from the client's departure instead of the server's read, for a server
    that freezes and does not read.
    """
    records = run.records
    chosen = (records["error"] == 0) & (records["warmup"] == 0)
    started = records.select(chosen)
    offset = _clock_offset(run)
    found: dict[str, list[float]] = {m: [] for m in ("ttft", "latency", "tpot", "chunk_gap")}
    for row in range(len(started)):
        server = run.timestamps[int(started["index"][row]), int(started["turn"][row])]
        begin = started["sent"][row] + offset if from_departure else server.received
        writes = np.array(server.writes)
        found["ttft"].append(float(writes[0] - begin))
        found["latency"].append(float(writes[-1] - begin))
        tokens = int(started["output_tokens"][row])
        if tokens > 1 and len(writes) > 1:
            found["tpot"].append(float(writes[-1] - writes[0]) / (tokens - 1))
        found["chunk_gap"] += np.diff(writes).tolist()
    return {metric: np.array(values) for metric, values in found.items()}


def _clock_offset(run: Run) -> float:
    """The start of the level in the monotonic clock.

    Assumes that the fastest request reached the server at once, which is true within about 50 us.
    """
    records = run.records
    delays = [
        run.timestamps[int(i), int(t)].received - sent
        for i, t, sent in zip(records["index"], records["turn"], records["sent"], strict=True)
        if (int(i), int(t)) in run.timestamps
    ]
    return min(delays)


@dataclass(frozen=True)
class Finding:
    """One value of the report and the true value, in seconds."""

    metric: str
    statistic: str
    measured: float
    true: float
    error_bar: float

    @property
    def within_error_bar(self) -> bool:
        """Whether the difference is within the printed error bar."""
        return abs(self.measured - self.true) <= self.error_bar

    @property
    def within_limits(self) -> bool:
        """Whether the difference is at most 1% or 0.5 ms."""
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
