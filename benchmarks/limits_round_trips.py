"""Count the round trips to Redis that limits need per request.

    python -m benchmarks.limits_round_trips [--callers 200] [--seconds 5] [--json]

A real Redis keeps the counters of five limits and a budget of each caller; requests reserve and
settle as in the gateway, one after the other. What Redis has run is read from its `INFO
commandstats`.

- `cold`: the first request of each caller.
- `warm`: requests of one caller for some seconds.

Meanwhile, the process reports what it has used and renews its lease once per second, with up to 200
counters in a round trip. Exits with 1 if a cold request needs more than one round trip, or a warm
one any: there must be no more of them than reports.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Final

import redis

from benchmarks.limits_cost import LIMITS
from maxgate.clock import SystemClock
from maxgate.generation.context import Principal
from maxgate.generation.request import TokenIds
from maxgate.limits.counters import TICK
from maxgate.limits.exchanges import MAX_BATCH
from maxgate.limits.limits import Limits
from maxgate.limits.redis_table import RedisTable
from maxgate.limits.settings import LimitSettings
from maxgate.stores.redis import RedisStore
from maxgate.stores.settings import RedisSettings
from tests.fakes.redis_server import start_redis
from tests.fakes.requests import generation_request, served_model

MODEL: Final = served_model("llama", context_length=8192)
PROMPT: Final = TokenIds.of([1] * 25)
COUNTERS: Final = 4
"""Counters of each caller."""
BURST: Final = 100
"""Requests after which the loop may do something else."""


@dataclass(frozen=True)
class RoundTrips:
    """Requests of one kind, and the scripts that Redis has run meanwhile."""

    case: str
    requests: int
    seconds: float
    round_trips: int
    is_right: bool

    @property
    def per_request(self) -> float:
        """Round trips per request."""
        return self.round_trips / max(self.requests, 1)


class Gate:
    """Limits that count in Redis, and requests that pass them."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url)
        table = RedisTable(RedisStore(RedisSettings(url=url)))
        self._limits = Limits(LimitSettings.model_validate(LIMITS), table, SystemClock())
        self._guard = self._limits.guard(None)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Report during the block."""
        await self._limits.counters.join()
        reporting = asyncio.create_task(self._limits.counters.run())
        try:
            yield
        finally:
            reporting.cancel()
            with suppress(asyncio.CancelledError):
                await reporting
            self._client.close()

    def count(self) -> int:
        """Return how many scripts Redis has run."""
        return sum(
            int(stats["calls"])
            for name, stats in self._client.info("commandstats").items()
            if name.startswith("cmdstat_eval")
        )

    async def serve(self, caller: str) -> None:
        """Let a request pass, and settle it."""
        request = generation_request(prompt=PROMPT, max_tokens=16, model=MODEL)
        context = request.context
        context.principal = Principal(caller, caller, caller, "", "default")
        self._limits.edge.check(context.principal)
        async with self._guard.admit(request):
            self._limits.edge.format_headers(context)
        record = context.record
        record.engine_calls, record.prompt_tokens, record.completion_tokens = 1, 25, 12
        if context.reservation is not None:
            context.reservation.settle(record)


async def measure_cold(url: str, callers: int) -> RoundTrips:
    """Measure the first request of each caller."""
    gate = Gate(url)
    async with gate.running():
        await gate.serve("first")
        before, started = gate.count(), time.monotonic()
        for number in range(callers):
            await gate.serve(f"proj_{number}")
        trips, seconds = gate.count() - before, time.monotonic() - started
    reports = (seconds / TICK + 1) * (callers * COUNTERS // MAX_BATCH + 1)
    return RoundTrips("cold", callers, seconds, trips, trips <= callers + reports)


async def measure_warm(url: str, duration: float) -> RoundTrips:
    """Measure requests of a caller that has had some."""
    gate, requests = Gate(url), 0
    async with gate.running():
        await gate.serve("warm")
        await asyncio.sleep(TICK)
        before, started = gate.count(), time.monotonic()
        while time.monotonic() - started < duration:
            for _ in range(BURST):
                await gate.serve("warm")
            requests += BURST
            await asyncio.sleep(0)
        trips, seconds = gate.count() - before, time.monotonic() - started
    return RoundTrips("warm", requests, seconds, trips, trips <= seconds / TICK + 1)


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--callers", type=int, default=200, help="cold callers (default: 200)")
    parser.add_argument("--seconds", type=float, default=5, help="warm seconds (default: 5)")
    parser.add_argument("--json", action="store_true", help="print the values as JSON")
    options = parser.parse_args()
    with start_redis() as server:
        found = [
            asyncio.run(measure_cold(server.url, options.callers)),
            asyncio.run(measure_warm(server.url, options.seconds)),
        ]
    if options.json:
        print(json.dumps([{**asdict(f), "per_request": f.per_request} for f in found], indent=2))
    else:
        print("| case | requests | seconds | round trips | per request |\n|---|--:|--:|--:|--:|")
        for f in found:
            numbers = f"{f.requests} | {f.seconds:.1f} | {f.round_trips} | {f.per_request:.5f}"
            print(f"| {f.case} | {numbers} |")
    return 0 if all(f.is_right for f in found) else 1


if __name__ == "__main__":
    sys.exit(main())
