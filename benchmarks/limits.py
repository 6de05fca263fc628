"""Send far more requests than a limit allows, at once, and count those that are accepted.

    python -m benchmarks.limits [--requests 10000] [--limit 100] [--json] [case ...]

Each case starts gateways with a limit of requests per day in front of a stand-in for MAX, opens as
many connections as there are requests, and then sends one on each:

- `workers`: one gateway with 2 workers, which share a file,
- `hosts`: two gateways that share a real Redis, as on two hosts,
- `outage`: the same, and Redis is killed when half of the limit has been used within 5 seconds,
- `killed`: two gateways share requests at a time; the one that holds all of them is killed, and
  the time is measured until the other one accepts as many.

Exits with 1 if more than the limit is accepted (10 % more in the outage), if less than 99 % is, or
if what a killed gateway held is not free after the lease of 10 s and a report.
"""

import argparse
import asyncio
import json
import resource
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from time import monotonic
from typing import Final

from benchmarks.rolling_restart import RunningGateway, run_gateway
from maxgate.limits.counters import TICK
from maxgate.limits.table import LEASE_SECONDS
from tests.fakes.redis_server import RedisServer, start_redis

HOST: Final = "127.0.0.1"
BODY: Final = json.dumps({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8})
STREAM: Final = json.dumps({**json.loads(BODY), "stream": True})
CONNECTS_AT_ONCE: Final = 200
MAX_OVER: Final = 1.1
"""Factor of the limit that may be accepted while Redis is down."""
PACED_SECONDS: Final = 5.0
HELD: Final = 8
PATIENT: Final = {"UPSTREAM__CONNECT_TIMEOUT": 60}
"""So that accepted requests reach the engine, however busy this machine is."""


@dataclass(frozen=True)
class Outcome:
    """Responses of one case by status; 0 for none. `seconds` are those until the last one."""

    case: str
    limit: int
    accepted: int
    statuses: dict[int, int]
    seconds: float
    is_right: bool


def encode(body: str) -> bytes:
    """Return a whole chat request."""
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: {len(body)}\r\n"
    return f"{head}content-type: application/json\r\nconnection: close\r\n\r\n{body}".encode()


@asynccontextmanager
async def connect(
    ports: Sequence[int], count: int
) -> AsyncIterator[list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]:
    """Open connections to the gateways in turn."""
    slots = asyncio.Semaphore(CONNECTS_AT_ONCE)

    async def open_one(number: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with slots:
            return await asyncio.open_connection(HOST, ports[number % len(ports)])

    opened = await asyncio.gather(*[open_one(number) for number in range(count)])
    try:
        yield opened
    finally:
        for _, writer in opened:
            writer.close()


async def send_all(ports: Sequence[int], count: int) -> Counter[int]:
    """Send requests at once, and return their statuses."""
    statuses = Counter[int]()
    request = encode(BODY)

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(request)
            line = await reader.readline()
            status = int(line.split()[1]) if line else 0
            await reader.read()
        except OSError:
            status = 0
        statuses[status] += 1

    async with connect(ports, count) as connections:
        await asyncio.gather(*[send(*connection) for connection in connections])
    return statuses


def run_hosts(stack: ExitStack, redis: RedisServer, rates: object) -> list[int]:
    """Run two gateways that share this Redis, and return their ports."""
    settings = {"REDIS__URL": redis.url, "LIMITS__EVERYONE": json.dumps(rates), **PATIENT}
    return [stack.enter_context(run_gateway(1, **settings)).port for _ in range(2)]


def judge(case: str, limit: int, statuses: Counter[int], seconds: float, over: float) -> Outcome:
    """Compare what was accepted with the limit.

    On a busy machine, connections that are opened first may end before all are open (408, 0).
    """
    accepted = statuses[200]
    is_right = 0.99 * limit <= accepted <= over * limit
    return Outcome(case, limit, accepted, dict(statuses), round(seconds, 1), is_right)


def measure_workers(requests: int, limit: int) -> Outcome:
    """Measure two workers of one host."""
    rates = json.dumps({"requests_per_day": limit})
    with run_gateway(2, LIMITS__EVERYONE=rates, **PATIENT) as gateway:
        started = monotonic()
        statuses = asyncio.run(send_all([gateway.port], requests))
        return judge("workers", limit, statuses, monotonic() - started, 1)


async def send_around_outage(
    ports: Sequence[int], requests: int, limit: int, kill: Callable[[], None]
) -> Counter[int]:
    """Use half of the limit in 5 seconds, kill Redis, and send all other requests at once."""
    statuses = Counter[int]()
    steps = 10
    for _ in range(steps):
        statuses += await send_all(ports, limit // 2 // steps)
        await asyncio.sleep(PACED_SECONDS / steps)
    kill()
    return statuses + await send_all(ports, requests - statuses.total())


def measure_hosts(requests: int, limit: int, *, kills_redis: bool = False) -> Outcome:
    """Measure two gateways with one Redis, which may be killed in between."""
    with ExitStack() as stack:
        redis = stack.enter_context(start_redis())
        ports = run_hosts(stack, redis, {"requests_per_day": limit})
        started = monotonic()
        if kills_redis:
            work = send_around_outage(ports, requests, limit, redis.stop)
        else:
            work = send_all(ports, requests)
        statuses = asyncio.run(work)
        case, over = ("outage", MAX_OVER) if kills_redis else ("hosts", 1.0)
        return judge(case, limit, statuses, monotonic() - started, over)


async def hold(port: int, count: int) -> tuple[int, list[asyncio.StreamWriter]]:
    """Begin streams, and return how many were accepted, and the connections."""
    request, writers, accepted = encode(STREAM), [], 0
    for _ in range(count):
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(request)
        line = await reader.readline()
        accepted += b" 200 " in line
        writers.append(writer)
    return accepted, writers


async def measure_release(gateways: Sequence[RunningGateway]) -> Outcome:
    """Kill the gateway that holds all requests, and wait until the other one gets as many."""
    first, second = gateways
    held, _ = await hold(first.port, HELD)
    before, refused = await hold(second.port, 1)
    first.process.kill()
    started, accepted, statuses = monotonic(), 0, Counter[int]({429: 1 - before})
    while accepted < HELD and monotonic() - started < 2 * LEASE_SECONDS:
        got, writers = await hold(second.port, 1)
        accepted += got
        statuses[200 if got else 429] += 1
        refused += writers
        await asyncio.sleep(0 if got else 0.1)
    seconds = monotonic() - started
    for writer in refused:
        writer.close()
    is_right = held == accepted == HELD and not before and seconds <= LEASE_SECONDS + TICK
    return Outcome("killed", HELD, accepted, dict(statuses), round(seconds, 1), is_right)


def measure_killed() -> Outcome:
    """Measure the time until what a killed gateway held is free."""
    with ExitStack() as stack:
        redis = stack.enter_context(start_redis())
        settings = {
            "REDIS__URL": redis.url,
            "LIMITS__EVERYONE": json.dumps({"concurrent_requests": HELD}),
        }
        gateways = [stack.enter_context(run_gateway(1, gap_ms=1000, **settings)) for _ in range(2)]
        return asyncio.run(measure_release(gateways))


def main() -> int:
    """Measure all cases, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=10_000, help="requests (default: 10000)")
    parser.add_argument("--limit", type=int, default=100, help="limit (default: 100)")
    parser.add_argument("cases", nargs="*", help="cases (default: all)")
    parser.add_argument("--json", action="store_true", help="print the values as JSON")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sizes = options.requests, options.limit
    cases: dict[str, Callable[[], Outcome]] = {
        "workers": lambda: measure_workers(*sizes),
        "hosts": lambda: measure_hosts(*sizes),
        "outage": lambda: measure_hosts(*sizes, kills_redis=True),
        "killed": measure_killed,
    }
    outcomes = [cases[case]() for case in options.cases or cases]
    if options.json:
        print(json.dumps([asdict(outcome) for outcome in outcomes], indent=2))
    else:
        print("| case | limit | accepted | statuses | seconds | |\n|---|--:|--:|---|--:|---|")
        for o in outcomes:
            statuses = ", ".join(f"{count} x {status}" for status, count in o.statuses.items())
            verdict = "right" if o.is_right else "WRONG"
            print(f"| {o.case} | {o.limit} | {o.accepted} | {statuses} | {o.seconds} | {verdict} |")
    return 0 if all(outcome.is_right for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
