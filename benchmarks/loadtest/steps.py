"""One run of one tool, with the reported and the true values."""

import asyncio
import subprocess
from dataclasses import dataclass

import httpx
import numpy as np

from benchmarks.loadtest.others import Reported, Tool
from maxgate.loadtest.mock_server.script import Script
from maxgate.loadtest.mock_server.server import start_mock_server

# One core each, with priority over all other processes. The processes of a tool are scheduled
# normally among themselves, because with real-time scheduling those that poll starve the others.
# The priority is set for the tool's session (sched(7), "The autogroup feature").
SERVER = ("chrt", "--rr", "1", "taskset", "-c", "0")
CLIENT = ("sh", "-c", 'echo -20 > /proc/self/autogroup; exec taskset -c 1 "$@"', "sh")


@dataclass(frozen=True)
class Truth:
    """True values from the server's timestamps; milliseconds, and per second."""

    ttft_p50: float
    tpot_mean: float | None
    gap_p50: float | None
    latency_p50: float
    latency_p99: float
    requests: float
    chunks: float


@dataclass(frozen=True)
class Step:
    """One run of one tool."""

    concurrency: int
    reported: Reported | None
    true: Truth | None
    problem: str = ""

    @property
    def error(self) -> float | None:
        """Relative error of the reported median latency."""
        if self.reported is None or self.true is None or self.reported.latency_p50 is None:
            return None
        return abs(self.reported.latency_p50 / self.true.latency_p50 - 1)

    @property
    def accurate(self) -> bool:
        """Whether the error is below 1 %."""
        return self.error is not None and self.error < 0.01


def run_step(tool: Tool, script: Script, concurrency: int, requests: int) -> Step:
    """Run the tool once against a new mock server."""
    return asyncio.run(_run_step(tool, script, concurrency, requests))


async def _run_step(tool: Tool, script: Script, concurrency: int, requests: int) -> Step:
    async with (
        start_mock_server(script, command_prefix=SERVER) as url,
        httpx.AsyncClient(timeout=60) as client,
    ):
        try:
            reported = await asyncio.to_thread(
                tool.run, url, concurrency, requests, script.chunks, CLIENT
            )
        except (subprocess.SubprocessError, OSError, KeyError, ValueError) as error:
            return Step(concurrency, None, None, type(error).__name__)
        rows = (await client.get(f"{url}/timestamps")).json()
    return Step(concurrency, reported, _summarize([row for row in rows if row[2]], requests))


def _summarize(rows: list[tuple[str, float, list[float]]], requests: int) -> Truth:
    rows = rows[-requests:]  # tools send a few warm-up requests first
    received = np.array([row[1] for row in rows])
    first = np.array([row[2][0] for row in rows]) - received
    last = np.array([row[2][-1] for row in rows]) - received
    gaps = np.concatenate([np.diff(row[2]) for row in rows])
    chunks = sum(len(row[2]) for row in rows)
    window = max(row[2][-1] for row in rows) - received.min()
    per = (last - first) / np.maximum(1, [len(row[2]) - 1 for row in rows])
    return Truth(
        ttft_p50=float(np.median(first)) * 1000,
        tpot_mean=float(per.mean()) * 1000 if len(gaps) else None,
        gap_p50=float(np.median(gaps)) * 1000 if len(gaps) else None,
        latency_p50=float(np.median(last)) * 1000,
        latency_p99=float(np.quantile(last, 0.99)) * 1000,
        requests=len(rows) / window,
        chunks=chunks / window,
    )
