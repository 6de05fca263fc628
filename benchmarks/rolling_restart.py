"""Replace the workers of a gateway under load, again and again, and count failed requests.

    python -m benchmarks.rolling_restart [--requests 30000] [--clients 24] [--workers 2]

Half of the requests stream; connections are kept alive. The stand-in for MAX sends 8 tokens, 5 ms
apart. A restart begins as soon as the last one has ended, and at least one ends while requests are
sent. The metrics must count every request.
Exits with 1 if a request failed or is missing in the metrics.
"""

import argparse
import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.restart_clients import COMPLETE, HOST, Client, Results
from benchmarks.stack import CARD, ROOT, find_free_port, wait_for
from maxgate.server.instances import Instance, find_instances

START_TIMEOUT = 60
POLL_INTERVAL = 0.05


@dataclass(frozen=True)
class RunningGateway:
    """A gateway with several workers in front of the stand-in for MAX."""

    port: int
    process: "subprocess.Popen[bytes]"
    state_dir: Path

    def read_state(self) -> Instance | None:
        """Return its workers and the number of its restarts; None while they change."""
        return next(iter(find_instances(self.state_dir)), None)


@contextmanager
def run_gateway(workers: int, *, gap_ms: int = 5, **settings: object) -> Iterator[RunningGateway]:
    """Run the gateway with all of its workers; `settings` are variables without MAXGATE_."""
    port, engine_port, pause = find_free_port(), find_free_port(), threading.Event()
    with ExitStack() as stack:
        engine = stack.enter_context(
            _run("-m", "benchmarks.gateway.stand_in", "--port", str(engine_port))
        )
        engine_url = f"http://{HOST}:{engine_port}"
        wait_for(engine_url + "/v1/models", timeout=START_TIMEOUT, process=engine)
        script = json.dumps({"tokens": 8, "gap_ms": gap_ms, "delay_ms": 8 * gap_ms}).encode()
        urllib.request.urlopen(f"{engine_url}/script", data=script, timeout=5).close()
        state_dir = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        gateway = stack.enter_context(
            _run(
                *("api_server.py", "--port", str(port), "--workers", str(workers)),
                *("--engine-url", engine_url, "--card", str(CARD), "--log-level", "error"),
                MAXGATE_STATE_DIR=str(state_dir),
                **{f"MAXGATE_{name}": str(value) for name, value in settings.items()},
            )
        )
        url = f"http://{HOST}:{port}"
        wait_for(url + "/health/ready", timeout=START_TIMEOUT, process=gateway)
        while fetch_metrics(port)["workers"] < workers:
            pause.wait(POLL_INTERVAL)
        yield RunningGateway(port, gateway, state_dir)


@contextmanager
def _run(*arguments: str, **environment: str) -> "Iterator[subprocess.Popen[bytes]]":
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, env={**os.environ, **environment}
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def fetch_metrics(port: int) -> Any:
    """Return the metrics of all workers."""
    with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=10) as response:
        return json.load(response)


async def send_requests(
    port: int, results: Results, requests: int, clients: int, seen: set[int]
) -> None:
    """Send this many requests from several clients, and more until workers have been replaced."""
    sent = itertools.count()

    async def run_client(seed: int) -> None:
        client = Client(port, results, seed)
        while next(sent) < requests or not seen:
            await client.send()
        await client.finish()

    await asyncio.gather(*(run_client(seed) for seed in range(clients)))


async def restart_repeatedly(gateway: RunningGateway, seen: set[int]) -> None:
    """Restart until cancelled, and collect the ids of all workers."""
    while True:
        before = gateway.read_state()
        gateway.process.send_signal(signal.SIGUSR2)
        while (
            (now := gateway.read_state()) is None
            or before is None
            or (now.restarts == before.restarts)
        ):
            before = before or now
            await asyncio.sleep(POLL_INTERVAL)
        seen.update(now.workers)
        if now.error is not None:
            raise SystemExit(f"a restart failed: {now.error}")


async def measure(gateway: RunningGateway, requests: int, clients: int) -> tuple[Results, set[int]]:
    """Send the requests while the gateway restarts; returns the results and all workers' ids."""
    results, seen = Results(), set[int]()
    restarting = asyncio.create_task(restart_repeatedly(gateway, seen))
    sending = asyncio.create_task(send_requests(gateway.port, results, requests, clients, seen))
    await asyncio.wait([restarting, sending], return_when=asyncio.FIRST_COMPLETED)
    restarting.cancel()
    if not sending.done():
        sending.cancel()
        await restarting
    return results, seen


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=30_000)
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with run_gateway(options.workers) as gateway:
        began = time.perf_counter()
        results, seen = asyncio.run(measure(gateway, options.requests, options.clients))
        seconds = time.perf_counter() - began
        counted = fetch_metrics(gateway.port)["requests"]["by_outcome"]
        state = gateway.read_state()
    failed = results.count_failures(COMPLETE)
    sent = sum(results.outcomes.values())
    print(f"{sent} requests in {seconds:.0f} s, {failed} failed")
    print(f"outcomes: {dict(results.outcomes)}; longest request {results.longest:.2f} s")
    print(f"{state.restarts if state else 0} restarts, {len(seen)} new workers")
    print(f"counted in the metrics: {counted}")
    if failed or counted != {"ok": sent}:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
