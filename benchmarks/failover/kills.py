"""Kill mock engines again and again under streams; no client may notice.

    python -m benchmarks.failover.kills [--streams 2000] [--kills 20]

Three engines serve streams of 100 tokens. Evenly over all streams, one engine after the other is
killed with SIGKILL and started again; the next one is killed once the gateway uses all three. The
mock continues a prompt only after exactly its own ids, so the right text shows that they were
replayed exactly. Exits with 1 unless every stream has the right text, end and usage.
"""

import argparse
import asyncio
import sys
import time

from benchmarks.failover.mock_stack import Clients, Mock, run_mocks, wait_for_engines
from benchmarks.stack import read_counter

TOKENS = 100


def restart(mock: Mock, url: str) -> None:
    """Kill the engine, start it again, and wait until the gateway at this URL uses it."""
    mock.kill()
    mock.start()
    wait_for_engines(url)


async def measure(url: str, mocks: list[Mock], streams: int, kills: int, at_once: int) -> int:
    """Send at least so many streams while engines are killed; returns the number of wrong ones."""
    clients = Clients(url, tokens=TOKENS, stream=True)
    restarts = list[asyncio.Task[None]]()
    # Streams in step would all be at the same token, and two engines be killed at once.
    spacing = (mocks[0].first + TOKENS * mocks[0].gap) / at_once

    def kill_next() -> None:
        number, responses = len(restarts), clients.tally.outcomes.total()
        is_due = number < kills and responses * (kills + 1) >= streams * (number + 1)
        if is_due and all(one.done() for one in restarts):
            mock = mocks[number % len(mocks)]
            restarts.append(asyncio.create_task(asyncio.to_thread(restart, mock, url)))

    async def send_some(number: int) -> None:
        await asyncio.sleep(number * spacing)
        while clients.tally.outcomes.total() < streams or len(restarts) < kills:
            await clients.send()
            kill_next()

    began = time.perf_counter()
    await asyncio.gather(*map(send_some, range(at_once)))
    await asyncio.gather(*restarts)
    clients.close()
    continuations = await asyncio.to_thread(read_counter, url, "maxgate_continuations_total")
    print(
        f"{clients.tally.outcomes.total()} streams, {kills} kills, "
        f"{time.perf_counter() - began:.1f} s: "
        f"{dict(clients.tally.outcomes)}, {continuations} continuations"
    )
    return clients.tally.failed


def main() -> int:
    """Run everything and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=2000)
    parser.add_argument("--at-once", type=int, default=60)
    parser.add_argument("--kills", type=int, default=20)
    options = parser.parse_args()
    with run_mocks(3, 0.05, 0.02) as (url, mocks):
        run = measure(url, mocks, options.streams, options.kills, options.at_once)
        failed = asyncio.run(run)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
