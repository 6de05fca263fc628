"""Send requests while one of three engines is bad, and count what clients and the bad engine get.

    python -m benchmarks.failover.bad_replica [--faults 500,503,hang,slow,reset,flap]
        [--requests 5000]

Engines and clients are processes of their own. 200 requests before the fault show what is usual.
Exits with 1 if more than 0.1 % of the requests fail.
"""

import argparse
import asyncio
import sys
import time
from typing import cast, get_args

from benchmarks.failover.mock_engine import Fault
from benchmarks.failover.mock_stack import Mock, Tally, run_mocks, send_requests

_FAULTS = [fault for fault in get_args(Fault) if fault != "none"]
_POLL_SECONDS = 0.1


async def watch_calls(mock: Mock, calls: list[tuple[float, int]]) -> None:
    """Record the calls of the bad engine over time."""
    while True:
        count = await asyncio.to_thread(mock.count_calls)
        calls.append((time.perf_counter(), count))
        await asyncio.sleep(_POLL_SECONDS)


async def run(url: str, mocks: list[Mock], fault: Fault, requests: int) -> Tally:
    """Let one engine become bad after 200 requests; print how many calls it gets."""
    tally, usual, calls = Tally(), Tally(), list[tuple[float, int]]()
    await send_requests(url, 200, at_once=32, tokens=8, stream=True, tally=usual)
    bad = mocks[0]
    bad.kill()
    bad.fault = fault
    await asyncio.to_thread(bad.start)
    watching = asyncio.create_task(watch_calls(bad, calls))
    began = time.perf_counter()
    await send_requests(url, requests, at_once=32, tokens=8, stream=True, tally=tally)
    seconds = time.perf_counter() - began
    watching.cancel()
    quiet = next((at - began for at, count in calls if count >= 5), 0.0)
    later = [count for at, count in calls if at - began > 2]
    per_ten = (later[-1] - later[0]) / max(seconds - 2, 1) * 10 if later else 0.0
    slowest = sorted(tally.seconds)[-1 - len(tally.seconds) // 100]
    print(
        f"{fault}: {tally.failed} of {requests} failed {dict(tally.outcomes)}, {seconds:.1f} s, "
        f"P99 {slowest:.2f} s (usual {sorted(usual.seconds)[-2]:.2f}), "
        f"{calls[-1][1]} calls of the bad engine, the fifth after {quiet:.1f} s, "
        f"{per_ten:.1f} in 10 s after the first 2 s"
    )
    return tally


def main() -> int:
    """Run all faults."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", default=",".join(_FAULTS))
    parser.add_argument("--requests", type=int, default=5000)
    options = parser.parse_args()
    failed = False
    for fault in options.faults.split(","):
        with run_mocks(["none"] * 3, 0.03) as (url, mocks):
            tally = asyncio.run(run(url, mocks, cast("Fault", fault), options.requests))
        failed = failed or tally.failed > options.requests / 1000
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
