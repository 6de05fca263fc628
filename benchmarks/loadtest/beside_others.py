"""guidellm, aiperf, `max benchmark` and this load test on the same scripted server.

    python -m benchmarks.loadtest.beside_others [--tools ours,guidellm] [--parts accuracy]

Each of the others is looked for in an environment of its own: .bench/guidellm, .bench/aiperf and
.bench/max (`python -m venv`, then `pip install guidellm`, `aiperf`, `max[benchmark]==26.7.0`); one
that is not there is reported as absent. The scripted server has one core, the tool another, with
all the processes that it starts. Three questions:

1. Same load, what does each report, and what was true (by the server's own notes)?
2. How many requests a second (one chunk each, after 50 ms) does a client core sustain?
3. How many chunks a second (streams of 200 chunks, one in 5 ms)?

For 2 and 3 the concurrency doubles until the median latency that the tool reports is off by 1 % or
more; the rate is the one that the server saw at the last step before.
"""

import argparse
import asyncio
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import numpy as np

from benchmarks.loadtest.others import Reported, Tool, tools
from benchmarks.loadtest.results import write_part
from maxgate.tools.loadtest.responder.process import responding
from maxgate.tools.loadtest.responder.script import Script

SERVER_CPU, CLIENT_CPU = 0, 1
PLAIN = Script()
REQUESTS = Script(first=0.05, chunks=1)
CHUNKS = Script(first=0.05, chunks=200, gap=0.005)
TITLES = {
    "accuracy": "50 ms, 100 chunks at 10 ms, 8 at a time",
    "requests": "requests a second from one core",
    "chunks": "chunks a second to one core",
}


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


async def one(tool: Tool, script: Script, concurrency: int, requests: int) -> Step:
    """Run this tool once against a server of its own."""
    async with responding(script, cpu=SERVER_CPU) as url, httpx.AsyncClient(timeout=60) as client:
        try:
            said = await asyncio.to_thread(
                tool.run, url, concurrency, requests, script.chunks, CLIENT_CPU
            )
        except (subprocess.SubprocessError, OSError, KeyError, ValueError) as error:
            return Step(concurrency, None, None, type(error).__name__)
        noted = (await client.get(f"{url}/notes")).json()
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


def ladder(tool: Tool, script: Script, first: int, seconds: float) -> Iterator[Step]:
    """Twice as many at a time until it is off by 1 % or more."""
    concurrency = first
    whole = script.output_times()[-1]
    while concurrency <= 4096:
        requests = max(concurrency * 2, round(concurrency * seconds / whole))
        step = asyncio.run(one(tool, script, concurrency, requests))
        yield step
        if step.off is None or step.off >= 0.01:
            return
        concurrency *= 2


def accuracy(chosen: list[Tool], seconds: float) -> Iterator[str]:
    """Question 1."""
    yield "| tool | TTFT P50 | TPOT mean | gap P50 | latency P50 | latency P99 | requests/s |"
    yield "|---|---|---|---|---|---|---|"
    for tool in chosen:
        step = asyncio.run(one(tool, PLAIN, 8, max(16, round(8 * seconds))))
        if step.said is None or step.true is None:
            yield f"| {tool.name} | {step.problem} | | | | | |"
            continue
        said, true = step.said, step.true
        values = (said.ttft_p50, said.tpot_mean, said.gap_p50, said.latency_p50, said.latency_p99)
        yield _row(tool.name, *values, said.requests_per_second)
        values = (true.ttft_p50, true.tpot_mean, true.gap_p50, true.latency_p50, true.latency_p99)
        yield _row(f"true, for {tool.name}", *values, true.requests)


def _row(name: str, *values: float | None) -> str:
    cells = " | ".join("-" if value is None else f"{value:.3f}" for value in values)
    return f"| {name} | {cells} |"


def capacity(chosen: list[Tool], script: Script, first: int, seconds: float) -> Iterator[str]:
    """Questions 2 and 3."""
    yield "| tool | at a time | requests/s | chunks/s | off | first step that was off |"
    yield "|---|---|---|---|---|---|"
    for tool in chosen:
        steps = list(ladder(tool, script, first, seconds))
        fine = [step for step in steps if step.off is not None and step.off < 0.01]
        after = steps[-1]
        beyond = f"{after.concurrency}: {_percent(after.off) or after.problem}"
        if not fine or fine[-1].true is None:
            yield f"| {tool.name} | none | | | | {beyond} |"
            continue
        true = fine[-1].true
        counts = f"{fine[-1].concurrency} | {true.requests:.0f} | {true.chunks:.0f}"
        yield f"| {tool.name} | {counts} | {_percent(fine[-1].off)} | {beyond} |"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tools", default="guidellm,aiperf,max benchmark,ours")
    parser.add_argument("--seconds", type=float, default=4, help="of each run")
    parser.add_argument("--parts", default="accuracy,requests,chunks")
    arguments = parser.parse_args()
    asked = [tool for tool in tools() if tool.name in arguments.tools.split(",")]
    versions = {tool.name: tool.version() for tool in asked}
    chosen = [tool for tool in asked if versions[tool.name] is not None]
    named = "; ".join(f"{name} {version or 'absent'}" for name, version in versions.items())
    seconds = arguments.seconds
    parts = {
        "accuracy": lambda: accuracy(chosen, 6),
        "requests": lambda: capacity(chosen, REQUESTS, 16, seconds),
        "chunks": lambda: capacity(chosen, CHUNKS, 8, seconds),
    }
    for part in arguments.parts.split(","):
        text = [f"{named}. Milliseconds. The server and the client have a core each.", ""]
        for line in parts[part]():
            text.append(line)
            print(line, flush=True)
        command = f"python -m benchmarks.loadtest.beside_others --parts {part}"
        write_part(f"Beside other tools: {TITLES[part]}", command, "\n".join(text))


if __name__ == "__main__":
    main()
