"""guidellm, aiperf, `max benchmark` and this load test on the same scripted server.

    python -m benchmarks.loadtest.beside_others [--tools ours,guidellm] [--parts accuracy]

Each of the others is looked for in an environment of its own: .bench/guidellm, .bench/aiperf and
.bench/max (`python -m venv`, then `pip install guidellm`, `aiperf`, `max[benchmark]==26.7.0`); one
that is not there is reported as absent. The scripted server has one core, the tool another, with
all the processes that it starts, and both go before everything else on the machine, which needs
root. Three questions:

1. Same load, what does each report, and what was true (by the server's own notes)?
2. How many requests a second (one chunk each, after 50 ms) does a client core sustain?
3. How many chunks a second (streams of 200 chunks, one in 5 ms)?

For 2 and 3 the concurrency is sought at which the median latency that the tool reports is just less
than 1 % off; the rate is the one that the server saw. `most, however late` is the highest rate that
the server saw at any step.
"""

import argparse
from collections.abc import Iterator

from benchmarks.loadtest.capacity import capacity
from benchmarks.loadtest.others import Tool, tools
from benchmarks.loadtest.results import write_part
from benchmarks.loadtest.steps import step
from maxgate.loadtest.mock_server.script import Script

PLAIN = Script()
REQUESTS = Script(first=0.05, chunks=1)
CHUNKS = Script(first=0.05, chunks=200, gap=0.005)
TITLES = {
    "accuracy": "50 ms, 100 chunks at 10 ms, 8 at a time",
    "requests": "requests a second from one core",
    "chunks": "chunks a second to one core",
}


def accuracy(chosen: list[Tool], seconds: float) -> Iterator[str]:
    """Question 1."""
    yield "| tool | TTFT P50 | TPOT mean | gap P50 | latency P50 | latency P99 | requests/s |"
    yield "|---|---|---|---|---|---|---|"
    for tool in chosen:
        done = step(tool, PLAIN, 8, max(16, round(8 * seconds)))
        if done.said is None or done.true is None:
            yield f"| {tool.name} | {done.problem} | | | | | |"
            continue
        said, true = done.said, done.true
        values = (said.ttft_p50, said.tpot_mean, said.gap_p50, said.latency_p50, said.latency_p99)
        yield _row(tool.name, *values, said.requests_per_second)
        values = (true.ttft_p50, true.tpot_mean, true.gap_p50, true.latency_p50, true.latency_p99)
        yield _row(f"true, for {tool.name}", *values, true.requests)


def _row(name: str, *values: float | None) -> str:
    cells = " | ".join("-" if value is None else f"{value:.3f}" for value in values)
    return f"| {name} | {cells} |"


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
