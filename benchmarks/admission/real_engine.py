"""Measure the goodput of the real engine at twice and ten times its capacity.

    python -m benchmarks.admission.real_engine [--scale 1] [--json] [--keep]

Starts MAX with the small model. As many clients as the model's batch has places, each of which
sends its next request after a response, show the capacity and the time of a response; a response is
good within ten times that time, as in `overload`. Then clients send at a fixed rate, as there, to

1. `maxgate`, which has started MAX, and takes the number of slots from the model card;
2. `maxgate, metrics`, which reads the metrics of MAX, and has no limit set by hand;
3. `MAX` itself.

Engine, gateway and clients share the cores, so that the refused requests of ten times the load take
some of the engine's time. Exits with 1 if maxgate misses a goal of `overload`; the time of refusals
is not one of them here.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import uvloop
import yaml

from benchmarks.admission.clients import Clients, find_quantile
from benchmarks.admission.overload import MIN_SHARE, Load, Overload, format_table, measure
from benchmarks.admission.results import write_part
from benchmarks.gateway.http_client import Target
from benchmarks.gateway.processes import exit_on_sigterm, print_progress
from benchmarks.stack import CARD, Stack, run_gateway, run_stack, wait_for

BATCH: Final = 8
"""Requests that MAX works on at a time, from the model card."""
TOKENS: Final = 8
PEAK_SECONDS: Final = 20.0
SLO_RESPONSES: Final = 10
PATIENCE_RESPONSES: Final = 50


def connect(url: str, patience: float) -> Clients:
    """Return clients of the server at this URL."""
    port = urlsplit(url).port
    assert port is not None
    fields = {"max_tokens": TOKENS, "temperature": 0}
    return Clients(Target(port=port, headers={}), fields=fields, patience=patience)


async def measure_peak(clients: Clients, seconds: float) -> tuple[float, float]:
    """Return responses per second, and the median seconds of one, with a full batch."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds

    async def send() -> None:
        while loop.time() < end:
            await clients.send()

    began = loop.time()
    await asyncio.gather(*(send() for _ in range(BATCH)))
    elapsed = loop.time() - began
    clients.close()
    times = [response.seconds for response in clients.responses if response.status == 200]
    return len(times) / elapsed, find_quantile(times, 0.5)


def find_load(stack: Stack, scale: float) -> tuple[Load, float]:
    """Measure the capacity; returns the load and the seconds of a response."""
    uvloop.run(measure_peak(connect(stack.engine_url, 60.0), 5.0))
    capacity, response = uvloop.run(measure_peak(connect(stack.engine_url, 60.0), PEAK_SECONDS))
    load = Load(
        capacity=capacity,
        slo=SLO_RESPONSES * response,
        half_seconds=20 * response * scale,
        overload_seconds=40 * response * scale,
    )
    return load, response


def measure_all(stack: Stack, load: Load, response: float) -> list[Overload]:
    """Measure all subjects in turn."""
    patience = PATIENCE_RESPONSES * response
    results = list[Overload]()
    with ExitStack() as exits:
        folder = Path(exits.enter_context(tempfile.TemporaryDirectory()))
        config = folder / "maxgate.yaml"
        engine = {"url": stack.engine_url, "metrics_url": stack.metrics_url}
        config.write_text(yaml.safe_dump({"engines": [engine]}))
        flags = ("--engine", "none", "--config", str(config), "--card", str(CARD))
        url, process = exits.enter_context(run_gateway(*flags))
        wait_for(url + "/health/ready", timeout=60, process=process)
        subjects = {
            "maxgate": stack.gateway_url,
            "maxgate, metrics": url,
            "MAX": stack.engine_url,
        }
        for name, subject_url in subjects.items():
            print_progress(f"{name}: {time.strftime('%H:%M:%S')}")
            results += uvloop.run(measure(name, connect(subject_url, patience), load))
    return results


def is_right(results: Sequence[Overload]) -> bool:
    """Whether maxgate meets the goals."""
    own = [r for r in results if r.subject != "MAX"]
    return all(r.share >= MIN_SHARE and r.after >= MIN_SHARE for r in own)


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scale", type=float, default=1.0, help="of all times (default: 1)")
    parser.add_argument("--json", action="store_true", help="print the values as JSON")
    parser.add_argument("--keep", action="store_true", help="write the result to RESULTS.md")
    options = parser.parse_args()
    exit_on_sigterm()
    with run_stack() as stack:
        load, response = find_load(stack, options.scale)
        results = measure_all(stack, load, response)
    text = (
        f"{format_table(results)}\n\nCapacity {load.capacity:.1f} responses/s of {TOKENS} tokens, "
        f"{response:.2f} s each; good within {load.slo:.1f} s."
    )
    print(json.dumps([asdict(r) for r in results], indent=2) if options.json else text)
    if options.keep:
        write_part("Real engine", "python -m benchmarks.admission.real_engine", text)
    return 0 if is_right(results) else 1


if __name__ == "__main__":
    sys.exit(main())
