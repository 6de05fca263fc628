"""Count engine calls per client request while every engine is down.

    python -m benchmarks.failover.storm [--rate 100] [--seconds 30] [--outages 500,close,refuse]

Three mock engines are healthy for ten seconds, then all of them answer 500 at once, close
connections, or refuse them. Clients send requests at a steady rate and never retry. After the
outage, requests must succeed again. Exits with 1 if there are more than 1.2 engine calls per client
request, counted by the gateway's metrics, or if the engines are not found again. Retries are a
share of the requests of ten seconds, healthy ones included: shorter outages have more calls.
"""

import argparse
import asyncio
import sys
from typing import Final, Literal, cast, get_args

from benchmarks.failover.mock_stack import Clients, Mock, run_mocks
from benchmarks.stack import read_counter

Outage = Literal["500", "503", "close", "reset", "refuse"]
MAX_CALLS: Final = 1.2
HEALTHY_SECONDS: Final = 10.0
RECOVERY_SECONDS: Final = 40.0
TOKENS: Final = 4


def start_outage(mocks: list[Mock], outage: Outage) -> None:
    """Let all engines fail."""
    for mock in mocks:
        if outage == "refuse":
            mock.kill()
        else:
            mock.fail(outage)


def end_outage(mocks: list[Mock], outage: Outage) -> None:
    """Let all engines work again."""
    for mock in mocks:
        if outage == "refuse":
            mock.start()
        else:
            mock.fail("none")


async def recover(url: str) -> float:
    """Send requests until 20 in a row succeed; returns the seconds that it took."""
    loop = asyncio.get_running_loop()
    began, row = loop.time(), 0
    while row < 20 and loop.time() - began < RECOVERY_SECONDS:
        clients = Clients(url, tokens=TOKENS, stream=True)
        await clients.send()
        clients.close()
        row = 0 if clients.tally.failed else row + 1
        await asyncio.sleep(0.02)
    return loop.time() - began


async def measure(
    url: str, mocks: list[Mock], outage: Outage, *, rate: float, seconds: float, healthy: float
) -> bool:
    """Send requests before, during and after the outage; returns whether all is right."""
    before = Clients(url, tokens=TOKENS, stream=True)
    await before.send_steadily(rate, healthy)
    before.close()
    await asyncio.to_thread(start_outage, mocks, outage)
    calls = await asyncio.to_thread(read_counter, url, "maxgate_engine_calls_total")
    during = Clients(url, tokens=TOKENS, stream=True)
    await during.send_steadily(rate, seconds)
    during.close()
    calls = await asyncio.to_thread(read_counter, url, "maxgate_engine_calls_total") - calls
    await asyncio.to_thread(end_outage, mocks, outage)
    recovery = await recover(url)
    requests = during.tally.outcomes.total()
    is_right = (
        not before.tally.failed
        and calls <= MAX_CALLS * requests
        and recovery < RECOVERY_SECONDS
        and not during.tally.outcomes["ok"]
    )
    print(
        f"{outage}: {before.tally.failed} of {before.tally.outcomes.total()} failed before, then "
        f"{calls} engine calls for {requests} requests = {calls / requests:.2f} "
        f"({dict(during.tally.outcomes)}), recovered after {recovery:.1f} s"
        f"{'' if is_right else '  WRONG'}",
        flush=True,
    )
    return is_right


def main() -> int:
    """Run all outages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--outages", default=",".join(get_args(Outage)))
    parser.add_argument("--rate", type=float, default=120)
    parser.add_argument("--seconds", type=float, default=30)
    options = parser.parse_args()
    right = True
    for outage in cast("list[Outage]", options.outages.split(",")):
        with run_mocks(3, 0.03, 0.005) as (url, mocks):
            run = measure(
                *(url, mocks, outage),
                rate=options.rate,
                seconds=options.seconds,
                healthy=HEALTHY_SECONDS,
            )
            right = asyncio.run(run) and right
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
