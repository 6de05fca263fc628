"""Kill mock engines again and again under streams; no client may notice.

    python -m benchmarks.failover.kills [--streams 2000] [--kills 20]

Three engines serve streams of 100 tokens. Every half second one of them is killed with SIGKILL and
started again. Exits with 1 unless every stream has the right text and usage.
"""

import argparse
import asyncio
import sys
import time

from benchmarks.failover.mock_stack import Mock, Tally, run_mocks, send_requests
from benchmarks.stack import read_counter


async def kill_engines(mocks: list[Mock], kills: int) -> int:
    """Kill the engines in turn; returns how often, if the streams end earlier."""
    done = 0
    try:
        for number in range(kills):
            await asyncio.sleep(0.5)
            mock = mocks[number % len(mocks)]
            mock.kill()
            await asyncio.to_thread(mock.start)
            done += 1
    except asyncio.CancelledError:
        pass
    return done


async def run(url: str, mocks: list[Mock], options: argparse.Namespace) -> tuple[Tally, int]:
    """Send all streams while engines are killed."""
    tally = Tally()
    killer = asyncio.create_task(kill_engines(mocks, options.kills))
    await send_requests(
        url, options.streams, at_once=options.at_once, tokens=100, stream=True, tally=tally
    )
    killer.cancel()
    return tally, await killer


def main() -> int:
    """Run everything and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=2000)
    parser.add_argument("--at-once", type=int, default=60)
    parser.add_argument("--kills", type=int, default=20)
    options = parser.parse_args()
    with run_mocks(["none"] * 3, 0.005) as (url, mocks):
        began = time.perf_counter()
        tally, kills = asyncio.run(run(url, mocks, options))
        seconds = time.perf_counter() - began
        continuations = read_counter(url, "maxgate_continuations_total")
    print(f"{options.streams} streams, {kills} kills, {seconds:.1f} s: {dict(tally.outcomes)}")
    print(f"{continuations} continuations")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
