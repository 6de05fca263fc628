"""Compare the performance of maxgate in two checkouts.

    python -m benchmarks.before_after --before DIR [--rounds 5] [--seconds 3] [--json]

Each round starts the gateway of both checkouts in turn, in alternating order, in front of the
same stand-in for MAX, and measures start time, idle memory, short chat requests at saturation and
256 paced streams. Both use this Python environment. The gateway has one core, the load source and
the stand-in have another one. Needs wrk and the prepared model smollm2-135m-instruct.
"""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.gateway.cases import CaseFailed, measure_chat, measure_paced_streams
from benchmarks.gateway.environments import FOLDER, ROOT
from benchmarks.gateway.gateways import StartOptions, start_maxgate
from benchmarks.gateway.http_client import StandIn, Target
from benchmarks.gateway.processes import (
    choose_cores,
    exit_on_sigterm,
    print_progress,
    start_process,
)
from benchmarks.gateway.prompts import Bodies, fill_template, load_token_counter
from benchmarks.gateway.report import describe_environment, find_revision
from benchmarks.gateway.results import Results, Sample
from benchmarks.gateway.stack import LOGS, RunningGateway, find_free_ports, run_stand_in
from benchmarks.gateway.table import format_markdown, format_number

START_TIMEOUT = 60
CASE = "all"
METRICS = {
    "chat_rate": "chat, requests per second of CPU",
    "chat_cpu_us": "chat, µs CPU/request",
    "chunk_cpu_us": "256 streams paced at 10 ms, µs CPU/chunk",
    "start_seconds": "start to the first response, s",
    "idle_mib": "resident when idle, MiB",
}


@contextmanager
def run_checkout(
    name: str, checkout: Path, engine: StandIn, core: int
) -> Iterator[tuple[RunningGateway, Sample]]:
    """Run the gateway of a checkout; yields it with its start time and idle memory."""
    port, metrics_port = find_free_ports(2)
    folder = FOLDER / "run" / name
    folder.mkdir(parents=True, exist_ok=True)
    options = StartOptions(port, metrics_port, engine.url, folder)
    with start_process(
        start_maxgate(options, checkout),
        core=core,
        log=LOGS / f"{name}.log",
        environment={"PYTHONPATH": str(checkout)},
        folder=checkout,
    ) as process:
        url = f"http://127.0.0.1:{port}"
        seconds = process.wait_for(url + "/health/live", START_TIMEOUT)
        process.wait_for(url + "/health/ready", START_TIMEOUT)
        sample = {"start_seconds": seconds, "idle_mib": process.resident_bytes() / 2**20}
        yield RunningGateway(process, Target(port, {}), engine, folder), sample


def warm_up(gateway: RunningGateway, bodies: Bodies) -> None:
    """Wait until the gateway responds to a chat request."""
    url = f"http://127.0.0.1:{gateway.target.port}/v1/chat/completions"
    headers = {"content-type": "application/json"}
    gateway.process.wait_for(url, START_TIMEOUT, fill_template(bodies.short, 0), headers)


def measure(
    checkouts: dict[str, Path], engine: StandIn, core: int, options: argparse.Namespace
) -> Results:
    """Measure all rounds."""
    bodies = Bodies.build(load_token_counter())
    results = Results()
    for number in range(1, options.rounds + 1):
        names = list(checkouts) if number % 2 else list(reversed(checkouts))
        for name in names:
            print_progress(f"round {number} of {options.rounds}: {name}")
            engine.set_script()
            with run_checkout(name, checkouts[name], engine, core) as (gateway, sample):
                warm_up(gateway, bodies)
                try:
                    chat = measure_chat(gateway, bodies, options.seconds)
                    streams = measure_paced_streams(gateway, bodies, options.seconds)
                except CaseFailed as reason:
                    raise SystemExit(f"{name}: {reason}; see {LOGS / name}.log") from None
            sample |= {"chat_rate": chat["rate"], "chat_cpu_us": chat["cpu_us"]}
            results.add(name, CASE, {**sample, "chunk_cpu_us": streams["cpu_us"]})
    return results


def summarize(results: Results) -> dict[str, dict[str, float | None]]:
    """Return the medians of both checkouts, and the median of each round's after/before ratio."""
    return {
        metric: {
            "before": results.median("before", CASE, metric),
            "after": results.median("after", CASE, metric),
            "ratio": results.ratio(("after", CASE, metric), ("before", CASE, metric)),
        }
        for metric in METRICS
    }


def format_table(summary: dict[str, dict[str, float | None]]) -> str:
    """Format one row per metric."""
    rows = [["", "before", "after", "after/before"]]
    for metric, title in METRICS.items():
        before, after, ratio = (summary[metric][key] or 0 for key in ("before", "after", "ratio"))
        rows.append([title, format_number(before), format_number(after), f"{ratio:.3f}"])
    return format_markdown(rows)


def find_checkout(path: str) -> Path:
    """Resolve the directory of a checkout; for argparse."""
    checkout = Path(path).resolve()
    if not (checkout / "api_server.py").exists():
        raise argparse.ArgumentTypeError(f"{path} is not a checkout: api_server.py is missing")
    return checkout


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.before_after", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "--before", type=find_checkout, required=True, metavar="DIR",
        help="checkout to compare with, e.g. a git worktree of an older commit",
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds (default: 5)")
    parser.add_argument(
        "--seconds", type=float, default=3, help="seconds per measurement (default: 3)"
    )
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    options = parser.parse_args()
    exit_on_sigterm()
    gateway_core, other_core = choose_cores()
    checkouts = {"before": options.before, "after": ROOT}
    with run_stand_in(other_core) as engine:
        results = measure(checkouts, engine, gateway_core, options)
    summary: dict[str, Any] = summarize(results)
    if options.json:
        print(json.dumps(summary, indent=2))
        return
    before = f"before: {find_revision(options.before)}"
    rounds = f"Medians of {options.rounds} rounds of {options.seconds:g} s per measurement"
    print(describe_environment([f"{rounds}; {before}."]), format_table(summary), sep="\n\n")


if __name__ == "__main__":
    main()
