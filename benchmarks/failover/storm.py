"""Send requests while every engine is down, and count engine calls per client request.

    python -m benchmarks.failover.storm [--faults 500,reset,refused] [--seconds 30] [--rate 100]

Exits with 1 above 1.2 calls per request.
"""

import argparse
import asyncio
import sys
from typing import cast

import httpx

from benchmarks.failover.mock_engine import Fault
from benchmarks.failover.mock_stack import Mock, run_mocks
from benchmarks.stack import read_counter

LIMIT = 1.2
BODY = {"messages": [{"role": "user", "content": "Count."}], "max_tokens": 8}


async def send_at_rate(url: str, rate: float, seconds: float) -> int:
    """Send requests at a fixed rate; returns their number."""
    loop, count = asyncio.get_running_loop(), int(rate * seconds)
    began = loop.time()
    async with httpx.AsyncClient(base_url=url, timeout=60) as client, asyncio.TaskGroup() as tasks:
        for number in range(count):
            await asyncio.sleep(max(began + number / rate - loop.time(), 0))
            tasks.create_task(client.post("/v1/chat/completions", json=BODY))
    return count


async def run(url: str, mocks: list[Mock], fault: str, options: argparse.Namespace) -> float:
    """Let all engines fail; returns the engine calls per request."""
    for mock in mocks:
        mock.kill()
        if fault != "refused":
            mock.fault = cast("Fault", fault)
            await asyncio.to_thread(mock.start)
    before = read_counter(url, "maxgate_engine_calls_total")
    requests = await send_at_rate(url, options.rate, options.seconds)
    calls = read_counter(url, "maxgate_engine_calls_total") - before
    print(f"{fault}: {calls} engine calls for {requests} requests, {calls / requests:.2f} each")
    return calls / requests


def main() -> int:
    """Run all faults."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", default="500,reset,refused")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--rate", type=float, default=100)
    options = parser.parse_args()
    calls = []
    for fault in options.faults.split(","):
        with run_mocks(["none"] * 3, 0.005) as (url, mocks):
            calls.append(asyncio.run(run(url, mocks, fault, options)))
    return 1 if max(calls) > LIMIT else 0


if __name__ == "__main__":
    sys.exit(main())
