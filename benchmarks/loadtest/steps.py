"""One run of one tool, and what was true of it."""

import asyncio
import subprocess
from dataclasses import dataclass

import httpx
import numpy as np

from benchmarks.loadtest.others import Reported, Tool
from maxgate.loadtest.mock_server.script import Script
from maxgate.loadtest.mock_server.server import start_mock_server

# A core each, and before everything else that this machine has to do. The tools have the ordinary
# scheduling among their own processes: with a real-time one those that poll starve the others. A
# session of its own is what Linux weighs (sched(7), "The autogroup feature").
SERVER = ("chrt", "--rr", "1", "taskset", "-c", "0")
CLIENT = ("sh", "-c", 'echo -20 > /proc/self/autogroup; exec taskset -c 1 "$@"', "sh")


@dataclass(frozen=True)
class Truth:
    """What the server noted; milliseconds and per second."""

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
    said: Reported | None
    true: Truth | None
    problem: str = ""

    @property
    def off(self) -> float | None:
        """How far the reported median latency is from the true one."""
        if self.said is None or self.true is None or self.said.latency_p50 is None:
            return None
        return abs(self.said.latency_p50 / self.true.latency_p50 - 1)

    @property
    def fine(self) -> bool:
        """Less than 1 % off."""
        return self.off is not None and self.off < 0.01


def step(tool: Tool, script: Script, concurrency: int, requests: int) -> Step:
    """Run this tool once against a server of its own."""
    return asyncio.run(_step(tool, script, concurrency, requests))


async def _step(tool: Tool, script: Script, concurrency: int, requests: int) -> Step:
    async with (
        start_mock_server(script, command_prefix=SERVER) as url,
        httpx.AsyncClient(timeout=60) as client,
    ):
        try:
            said = await asyncio.to_thread(
                tool.run, url, concurrency, requests, script.chunks, CLIENT
            )
        except (subprocess.SubprocessError, OSError, KeyError, ValueError) as error:
            return Step(concurrency, None, None, type(error).__name__)
        noted = (await client.get(f"{url}/timestamps")).json()
    return Step(concurrency, said, _true([n for n in noted if n[2]], requests))


def _true(noted: list[tuple[str, float, list[float]]], requests: int) -> Truth:
    noted = noted[-requests:]  # tools send a few more before they measure
    received = np.array([n[1] for n in noted])
    first = np.array([n[2][0] for n in noted]) - received
    last = np.array([n[2][-1] for n in noted]) - received
    gaps = np.concatenate([np.diff(n[2]) for n in noted])
    chunks = sum(len(n[2]) for n in noted)
    window = max(n[2][-1] for n in noted) - received.min()
    per = (last - first) / np.maximum(1, [len(n[2]) - 1 for n in noted])
    return Truth(
        ttft_p50=float(np.median(first)) * 1000,
        tpot_mean=float(per.mean()) * 1000 if len(gaps) else None,
        gap_p50=float(np.median(gaps)) * 1000 if len(gaps) else None,
        latency_p50=float(np.median(last)) * 1000,
        latency_p99=float(np.quantile(last, 0.99)) * 1000,
        requests=len(noted) / window,
        chunks=chunks / window,
    )
