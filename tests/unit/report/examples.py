"""Example reports for tests, from seeded random values and the statistics of the load test."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from maxgate.report.runs import Run
from maxgate.results.distribution import Distribution, Interval
from maxgate.results.files import write_report
from maxgate.results.metrics import DEFINITIONS
from maxgate.results.report import (
    Change,
    Chunks,
    Client,
    InFlight,
    Level,
    Load,
    Machine,
    Report,
    Requests,
    Second,
    Server,
    Throughput,
    Tokens,
    Workload,
)
from maxgate.results.summary import summarize

STARTED = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def level(
    concurrency: int = 8,
    *,
    latency: float = 0.3,
    ttft: float = 0.05,
    count: int = 400,
    failed: int = 0,
    seed: int = 1,
    **fields: Any,
) -> Level:
    """Build a closed-loop level with log-normal latencies (sigma 0.25) around this median."""
    rng = np.random.default_rng(seed)
    latencies = latency * np.exp(rng.normal(0, 0.25, count))
    firsts = ttft * np.exp(rng.normal(0, 0.25, count))
    per_token = np.maximum(latencies - firsts, 0.001) / 19
    rate = concurrency / latency
    seconds = max(round(count / rate), 2)
    values = {
        "latency": latencies,
        "ttft": firsts,
        "tpot": per_token,
        "chunk_gap": np.repeat(per_token, 3),
    }
    settings: dict[str, Any] = {
        "name": f"concurrency {concurrency}",
        "scenario": "short",
        "concurrency": concurrency,
        "started_at": STARTED,
        "wall_seconds": seconds + 1.0,
        "window_seconds": float(seconds),
        "requests": Requests(
            attempted=count + failed,
            succeeded=count,
            failed=failed,
            errors={"http_503": failed} if failed else {},
        ),
        "in_flight": InFlight(configured=concurrency, mean=concurrency * 0.99, max=concurrency),
        "tokens": Tokens(input=count * 12, cached=0, output=count * 20, counted_by="usage"),
        "throughput": Throughput(
            requests=rate,
            requests_interval=Interval(low=rate * 0.97, high=rate * 1.03),
            output_tokens=rate * 20,
            chunks=rate * 20,
        ),
        "chunks": Chunks(
            count=count * 20, tokens_per_chunk=1.0, shared_reads=3, stalls=0, stall_seconds=0.2
        ),
        "metrics": {
            name: summarize(name, numbers, failures=failed, rng=np.random.default_rng(seed))
            for name, numbers in values.items()
        },
        "timeline": [
            Second(
                offset=second,
                started=round(rate),
                succeeded=round(rate),
                failed=failed // seconds,
                output_tokens=round(rate * 20),
                in_flight=concurrency,
                latency_p50=latency * (1 + 0.1 * (second % 3)),
                latency_p95=latency * 1.5,
                ttft_p50=ttft,
                ttft_p95=ttft * 1.5,
            )
            for second in range(seconds)
        ],
        "client": Client(cpu=0.2, late_p99=0.001),
    }
    return Level(**(settings | fields))


def report(*levels: Level, started: int = 0, fingerprint: str = "f" * 64, **fields: Any) -> Report:
    """Build a report of these levels, started this many minutes after noon."""
    settings: dict[str, Any] = {
        "created_at": STARTED + timedelta(minutes=started),
        "command": ["python", "load_test.py", "--concurrency", "8"],
        "seed": 1,
        "server": Server(url="http://localhost:8000", model="small", software="maxgate"),
        "machine": Machine(
            system="Linux", processor="x86", cores=2, memory_bytes=2**34, python="3.11"
        ),
        "versions": {"maxgate": "0.1.0"},
        "workload": Workload(
            scenarios=["short"], stream=True, max_tokens=20, cold=False, fingerprint=fingerprint
        ),
        "load": Load(
            kind="closed",
            concurrency=[8],
            duration_seconds=None,
            requests=400,
            warmup_requests=8,
            timeout_seconds=60,
        ),
        "definitions": DEFINITIONS,
        "levels": list(levels) or [level()],
    }
    return Report(**(settings | fields))


def write_example(path: Path, *levels: Level, **fields: Any) -> Path:
    """Write an example report to a file and return its path."""
    write_report(report(*levels, **fields), path)
    return path


TWO_RUNS = [
    Run("before", report(level(1), level(8, failed=20))),
    Run("after", report(level(1, seed=2), level(8, latency=0.5, seed=3), warnings=["swapping"])),
]
# A run that was interrupted before its first response.
EMPTY_RUN = Run(
    "empty",
    report(
        level(
            8,
            metrics={"latency": Distribution(metric="latency", unit="s", count=0)},
            timeline=[],
            chunks=None,
        ),
        interrupted=True,
    ),
)
MARKUP = "</script><img src=http://evil/x onerror=alert(1)>|`*_"


def build_malicious_runs() -> list[Run]:
    """Build two runs with markup in every free text."""
    change = Change(
        metric=MARKUP, statistic="p50", level=MARKUP, unit="s", before=1, after=2, difference=1,
        interval=None, verdict="worse", reason="",
    )  # fmt: skip
    return [
        Run(MARKUP, report(level(8, name=MARKUP), warnings=[MARKUP], command=[MARKUP])),
        Run("b", report(level(8), paired=[change])),
    ]
