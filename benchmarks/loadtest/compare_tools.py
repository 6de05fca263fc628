"""Compare guidellm, aiperf, `max benchmark` and this load test on the same mock server.

    python -m benchmarks.loadtest.compare_tools [--tools ours,guidellm] [--parts accuracy]

The other tools are expected in environments of their own: .bench/guidellm, .bench/aiperf and
.bench/max (`python -m venv`, then `pip install guidellm`, `aiperf`, `max[benchmark]==26.7.0`).
Missing ones are reported as absent. The mock server gets one core and the tool, with all its
processes, another; both have priority over all other processes, which requires root. Three parts:

1. accuracy: reported and true values (from the server's timestamps) at the same load.
2. requests: the requests per second (one chunk each, after 50 ms) that one client core sustains.
3. chunks: the chunks per second (streams of 200 chunks, one every 5 ms) that it sustains.

Parts 2 and 3 search for the highest concurrency at which the reported median latency is less than
1 % off; the rate is measured by the server. `maximum at any accuracy` is the highest rate of any
step.
"""

import argparse
from collections.abc import Iterator

from benchmarks.loadtest.capacity import measure_capacity
from benchmarks.loadtest.others import Reported, Tool, tools
from benchmarks.loadtest.results import write_part
from benchmarks.loadtest.steps import Truth, run_step
from maxgate.loadtest.mock_server.script import Script

PLAIN = Script()
REQUESTS = Script(first=0.05, chunks=1)
CHUNKS = Script(first=0.05, chunks=200, gap=0.005)
TITLES = {
    "accuracy": "50 ms, 100 chunks at 10 ms, concurrency 8",
    "requests": "requests per second from one core",
    "chunks": "chunks per second to one core",
}


def accuracy(chosen: list[Tool], seconds: float) -> Iterator[str]:
    """The rows of part 1."""
    yield "| tool | TTFT P50 | TPOT mean | gap P50 | latency P50 | latency P99 | requests/s |"
    yield "|---|---|---|---|---|---|---|"
    for tool in chosen:
        result = run_step(tool, PLAIN, 8, max(16, round(8 * seconds)))
        if result.reported is None or result.true is None:
            yield f"| {tool.name} | {result.problem} | | | | | |"
            continue
        yield _row(tool.name, _values(result.reported), result.reported.requests_per_second)
        yield _row(f"true, for {tool.name}", _values(result.true), result.true.requests)


def _values(source: Reported | Truth) -> list[float | None]:
    return [
        source.ttft_p50,
        source.tpot_mean,
        source.gap_p50,
        source.latency_p50,
        source.latency_p99,
    ]


def _row(name: str, values: list[float | None], rate: float | None) -> str:
    cells = " | ".join("-" if value is None else f"{value:.3f}" for value in [*values, rate])
    return f"| {name} | {cells} |"


def main() -> None:
    """Run the parts, print them and write them to RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tools", default="guidellm,aiperf,max benchmark,ours")
    parser.add_argument("--seconds", type=float, default=4, help="Duration of each run.")
    parser.add_argument("--parts", default="accuracy,requests,chunks")
    arguments = parser.parse_args()
    selected = [tool for tool in tools() if tool.name in arguments.tools.split(",")]
    versions = {tool.name: tool.version() for tool in selected}
    chosen = [tool for tool in selected if versions[tool.name] is not None]
    tool_versions = "; ".join(f"{name} {version or 'absent'}" for name, version in versions.items())
    seconds = arguments.seconds
    parts = {
        "accuracy": lambda: accuracy(chosen, 6),
        "requests": lambda: measure_capacity(chosen, REQUESTS, 16, seconds),
        "chunks": lambda: measure_capacity(chosen, CHUNKS, 8, seconds),
    }
    for part in arguments.parts.split(","):
        text = [
            f"{tool_versions}. Times in milliseconds. Server and client have one core each.",
            "",
        ]
        for line in parts[part]():
            text.append(line)
            print(line, flush=True)
        command = f"python -m benchmarks.loadtest.compare_tools --parts {part}"
        write_part(f"Comparison of tools: {TITLES[part]}", command, "\n".join(text))


if __name__ == "__main__":
    main()
