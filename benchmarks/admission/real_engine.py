"""Measure the goodput of the real engine at twice and ten times its capacity.

    python -m benchmarks.admission.real_engine [--scale 1] [--json] [--keep]

Starts MAX with the small model. As many clients as the model's batch has places, each of which
sends its next request after a response, show the capacity and the time of a response; a response is
good within ten times that time, as in `overload`. Then clients send at a fixed rate, as there, to

1. `maxgate, slots`, whose number of slots is that of the model card, as if it had started MAX;
2. `maxgate, metrics`, which reads the metrics of MAX, and has no limit set by hand;
3. `MAX` itself.

MAX runs on one core; gateway and clients share another one. Exits with 1 if maxgate misses a goal
of `overload`; the time of refusals is not one of them here, since clients delay them.
"""

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from benchmarks.gateway.processes import choose_cores, exit_on_sigterm, print_progress
from benchmarks.stack import CARD, find_free_port, run_gateway, wait_for

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


async def measure_peak(
    clients: Clients, seconds: float, *, stagger: float = 0.0
) -> tuple[float, float]:
    """Return responses per second, and the median seconds of one, with a full batch.

    The clients start over `stagger` seconds, so that the engine gets new prompts one by one, as
    under a load that has a fixed rate. Clients in step would share the steps of their prompts.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds

    async def send(delay: float) -> None:
        await asyncio.sleep(delay)
        while loop.time() < end:
            await clients.send()

    began = loop.time()
    await asyncio.gather(*(send(stagger * number / BATCH) for number in range(BATCH)))
    elapsed = loop.time() - began
    clients.close()
    times = [response.seconds for response in clients.responses if response.status == 200]
    return len(times) / elapsed, find_quantile(times, 0.5)


@contextmanager
def run_engine(cpu: int) -> Iterator[dict[str, str]]:
    """Run MAX on one core; yields its URLs as settings once it is ready."""
    port = find_free_port()
    arguments = ("engine", "start", "--card", str(CARD), "--port", str(port))
    process = subprocess.Popen(
        [str(shutil.which("taskset")), "-c", str(cpu), sys.executable, "-m", "maxgate", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/v1/models", timeout=600, process=process)
        yield {"url": url, "metrics_url": f"http://127.0.0.1:{port + 1}/metrics"}
    finally:
        process.terminate()
        process.wait(60)


def find_load(url: str, scale: float) -> tuple[Load, float]:
    """Measure the capacity; returns the load and the seconds of a response."""
    _, response = uvloop.run(measure_peak(connect(url, 60.0), 5.0))
    peak = measure_peak(connect(url, 60.0), PEAK_SECONDS, stagger=response)
    capacity, response = uvloop.run(peak)
    load = Load(
        capacity=capacity,
        slo=SLO_RESPONSES * response,
        half_seconds=20 * response * scale,
        overload_seconds=40 * response * scale,
    )
    return load, response


def measure_all(
    engine: Mapping[str, str], load: Load, response: float, cpu: int
) -> Iterator[Overload]:
    """Measure all subjects in turn."""
    patience = PATIENCE_RESPONSES * response
    of_gateways = {
        "maxgate, slots": {"engines": [engine["url"]], "admission": {"slots": BATCH}},
        "maxgate, metrics": {"engines": [dict(engine)]},
    }
    for name, settings in of_gateways.items():
        print_progress(f"{name}: {time.strftime('%H:%M:%S')}")
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder, "maxgate.yaml")
            config.write_text(yaml.safe_dump(settings))
            flags = ("--engine", "none", "--config", str(config), "--card", str(CARD))
            with run_gateway(*flags, cpu=cpu) as (url, process):
                wait_for(url + "/health/ready", timeout=60, process=process)
                yield from uvloop.run(measure(name, connect(url, patience), load))
    print_progress(f"MAX: {time.strftime('%H:%M:%S')}")
    yield from uvloop.run(measure("MAX", connect(engine["url"], patience), load))


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
    engine_core, other_core = choose_cores()
    os.sched_setaffinity(0, {other_core})
    print_progress("starting MAX")
    with run_engine(engine_core) as engine:
        load, response = find_load(engine["url"], options.scale)
        results = []
        for result in measure_all(engine, load, response, other_core):
            results.append(result)
            share, after = f"{result.share:.0%}", f"{result.after:.0%}"
            print_progress(f"{result.subject}, {result.factor}x: {share} good, {after} afterwards")
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
