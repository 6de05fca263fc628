"""Compare every value of a report with the true value, from the timestamps of the mock server.

    python -m benchmarks.loadtest.ground_truth [--seconds 20]

Each case runs the whole load test: warm-up, calibration, load, report. `true` is the time from the
client's departure to the server's write; both processes use the same clock, and the time that the
server needs to wake up and read counts as the server's, as in any test. `script` is the value in
the script, `error` the difference between reported and true, and `±` the error bar in the report.
Writes its part of benchmarks/loadtest/RESULTS.md.
"""

import argparse
import asyncio
from collections.abc import Iterator

import numpy as np

from benchmarks.loadtest.results import write_part
from maxgate.loadtest.mock_server.script import Script
from maxgate.loadtest.options import Options
from tests.oracles.scripted import Finding, Run, findings, run_scripted, truth

STALL = Script(stall_before=50, role_after=0.001)
CASES = {
    "50 ms, 100 chunks at 10 ms, a stall of 500 ms, an early role chunk": (STALL, {}),
    "nine tokens per chunk": (Script(tokens_per_chunk=9), {}),
    "two events in a packet": (Script(packing="two_in_a_packet"), {}),
    "one event in two packets": (Script(packing="split"), {}),
    "30 % instant 503": (Script(refuse=0.3), {}),
    "2 s freeze at 50 requests/s": (
        Script(first=0.05, chunks=1, freeze_after=4.0),
        {"rates": (50.0,), "concurrency": ()},
    ),
}


async def run(script: Script, seconds: float, **load: object) -> Run:
    """Run one case."""
    fields = {"scenarios": ("short",), "concurrency": (8,), "duration": seconds} | load
    return await run_scripted(script, Options(**fields))  # type: ignore[arg-type]


def scripted_medians(script: Script) -> dict[str, float]:
    """The medians that follow from the script."""
    times = np.array(script.output_times())
    if script.packing == "two_in_a_packet":
        times = np.repeat(times[1::2], 2)
    tokens = script.chunks * script.tokens_per_chunk
    medians = {"ttft": float(times[0]), "latency": float(times[-1])}
    if script.chunks > 1:
        medians["tpot"] = float(times[-1] - times[0]) / (tokens - 1)
        medians["chunk_gap"] = float(np.sort(np.diff(times))[(len(times) - 2) // 2])
    return medians


def report_case(name: str, script: Script, done: Run) -> Iterator[str]:
    """The lines of one case."""
    frozen = script.freeze_after is not None
    true = truth(done, from_departure=True)
    yield f"\n### {name}\n"
    yield "| metric | | script | true | reported | error | ± | within ± | within 1 % or 0.5 ms |"
    yield "|---|---|---|---|---|---|---|---|---|"
    scripted = scripted_medians(script)
    for one in findings(done, true):
        yield _row(one, None if frozen or one.statistic != "P50" else scripted[one.metric])
    yield "\n" + "; ".join(_facts(script, done)) + "."


def _row(one: Finding, scripted: float | None) -> str:
    shown = "" if scripted is None else f"{scripted * 1000:.3f}"
    numbers = (one.true, one.measured, one.measured - one.true, one.error_bar)
    cells = " | ".join(f"{number * 1000:.3f}" for number in numbers)
    verdicts = " | ".join(
        "yes" if within else "**no**" for within in (one.within_error_bar, one.within_limits)
    )
    return f"| {one.metric} | {one.statistic} | {shown} | {cells} | {verdicts} |"


def _facts(script: Script, done: Run) -> Iterator[str]:
    level = done.level
    requests = level.requests
    refused = sum(
        script.refuses(int(i)) for i in done.records["index"][done.records["warmup"] == 0]
    )
    yield f"{requests.attempted} requests, {requests.failed} failed (true: {refused})"
    if level.chunks is not None:
        yield (
            f"{level.chunks.tokens_per_chunk or 0:.3f} tokens per chunk "
            f"(true: {script.tokens_per_chunk})"
        )
        stalls = requests.succeeded if script.stall_before is not None else 0
        yield f"{level.chunks.stalls} stalls (true: {stalls})"
        pairs = level.chunks.count // 2 if script.packing == "two_in_a_packet" else 0
        yield f"{level.chunks.shared_reads} chunks arrived with the previous one (true: {pairs})"
    yield f"{level.in_flight.mean:.3f} in flight on average (max {level.in_flight.max})"
    latency = level.metrics["latency"]
    yield f"P50 including failures: {_ms(latency.including_failures.get('50'))}"
    yield f"P99 including failures: {_ms(latency.including_failures.get('99'))}"


def _ms(seconds: float | None) -> str:
    return "never reached" if seconds is None else f"{seconds * 1000:.1f} ms"


def main() -> None:
    """Run the cases, print them and write them to RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="Duration of each case.")
    arguments = parser.parse_args()
    text = []
    for name, (script, load) in CASES.items():
        done = asyncio.run(run(script, arguments.seconds, **load))
        text += list(report_case(name, script, done))
        print("\n".join(report_case(name, script, done)), flush=True)
    command = f"python -m benchmarks.loadtest.ground_truth --seconds {arguments.seconds:g}"
    write_part("Ground truth", command, "\n".join(text))


if __name__ == "__main__":
    main()
