"""Start docker-compose.full.yml, and kill each of its services under load.

    python -m benchmarks.compose_outages [--engine mock] [--seconds 15] [--only SERVICE]...
    python -m benchmarks.compose_outages --engine max --start-only --keep
    python -m benchmarks.compose_outages --engine max --reuse --only max

`--engine max` runs MAX on the CPU, `mock` a stand-in that takes little time. The second line leaves
everything running, and the third one uses it. Prints the time from
`docker compose up` with empty volumes to the first response through nginx and TLS, checks limits
and the targets of Prometheus, and then kills one service after the other while clients stream and
chat with a known key. Clients never send a request again. Another client tries unknown keys.

Exits with 1 if clients see anything but the policy of docs/containers.md, or if the ledger misses
a complete response.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Final

from benchmarks.compose_load import (
    CLOSED,
    OK,
    Load,
    Request,
    compare_ledger,
    count_outcomes,
    make_client,
    measure_chats,
    send,
)
from benchmarks.compose_stack import Stack, build_images, create_key, run, run_stack
from maxgate.auth.api_key import generate_key

STREAMS: Final = 8
CHATS: Final = 6
SETTLE_SECONDS: Final = 8
LIMIT: Final = 10
# Outcomes that the policy allows for requests that run or arrive during the outage.
_NONE: Final = frozenset[str]()
_OF_NGINX: Final = frozenset({"ConnectError", "ConnectTimeout", "ReadError", CLOSED, "cut"})
_OF_REPLICA: Final = frozenset({"502 upstream_unavailable", CLOSED, "ReadError", "cut"})
# The stand-in has no tokenizer that the gateway could read, so its streams cannot go on. A broken
# connection is one error, or the other, by the way in which it breaks. While they wait for MAX, the
# queue may be full for new ones.
_OF_MAX: Final = frozenset(
    f"{status} {code}"
    for status in ("502", "503", "stream with")
    for code in ("upstream_unavailable", "upstream_error")
) | {"503 server_overloaded", "503 queue_timeout"}


@dataclass(frozen=True)
class Outage:
    """A killed service: outcomes that clients may see, and the status of an unknown key.

    `spread` is the time in seconds between the first and the last gateway that finds it again.
    """

    service: str
    allowed: frozenset[str]
    unknown_key: int | None
    only_running: bool = False
    spread: float = 0


OUTAGES: Final = (
    Outage("redis", _NONE, 401),
    Outage("postgres", _NONE, 503),
    Outage("prometheus", _NONE, 401),
    Outage("gateway", _OF_REPLICA, 401, only_running=True),
    # Each gateway looks for it by itself: upstream.unhealthy_probe_interval is 1 s.
    Outage("max", _OF_MAX, 401, spread=1.5),
    Outage("nginx", _OF_NGINX, None),
)


@dataclass(frozen=True)
class Row:
    """The responses that clients got; times in seconds, latencies in milliseconds."""

    service: str
    seconds: float
    requests: int
    complete: int
    failures: str
    unknown_keys: str
    median: float
    p99: float
    recovery: float
    is_right: bool


async def start(stack: Stack) -> tuple[str, float]:
    """Start everything; returns a key, and the seconds to the first response."""
    began = monotonic()
    await asyncio.to_thread(stack.start)
    print(f"docker compose up returned after {monotonic() - began:.0f} s")
    await asyncio.to_thread(stack.wait_for_gateway)
    key = await asyncio.to_thread(create_key, stack, "load")
    async with make_client(key) as client:
        while True:
            request = await send(client, "first", is_stream=False)
            if request.outcome == OK:
                return key, monotonic() - began
            if monotonic() - began > 900:
                raise SystemExit(f"no response after 900 s: {request.outcome}")
            await asyncio.sleep(0.5)


async def check_limit(stack: Stack) -> str:
    """Send requests at once against a limit of a key, which four gateways share by Redis."""
    key = await asyncio.to_thread(create_key, stack, "limited")
    project = await asyncio.to_thread(stack.maxgate, "projects", "list", "--json")
    ids = [line.split('"')[3] for line in project.splitlines() if '"id"' in line]
    await asyncio.to_thread(
        stack.maxgate, "limits", "set", str(LIMIT), "--unit", "requests", "--per", "minute",
        "--project", ids[-1],
    )  # fmt: skip
    await asyncio.sleep(4 + (64 - time.time() % 60 if time.time() % 60 > 40 else 0))
    async with make_client(key) as client:
        sent = [send(client, f"limit-{n}", is_stream=False) for n in range(3 * LIMIT)]
        requests = await asyncio.gather(*sent)
    complete = sum(request.outcome == OK for request in requests)
    return f"limit of {LIMIT}: {complete} of {len(requests)} served, {count_outcomes(requests)}"


async def try_unknown_keys(statuses: set[int]) -> None:
    """Send a request with a new unknown key each second, until cancelled."""
    while True:
        async with make_client(generate_key()) as client:
            request = await send(client, "unknown", is_stream=False)
        if request.outcome[:3].isdigit():
            statuses.add(int(request.outcome[:3]))
        await asyncio.sleep(1)


async def kill(stack: Stack, key: str, outage: Outage, seconds: float) -> tuple[Row, list[Request]]:
    """Kill a service under load, start it again, and summarize what clients saw."""
    load, statuses = Load(key, f"{outage.service}-{monotonic():.0f}"), set[int]()
    async with load.run(STREAMS, CHATS):
        await asyncio.sleep(3)
        killed = monotonic()
        container = (await asyncio.to_thread(stack.list_containers, outage.service))[0]
        await asyncio.to_thread(run, "docker", "kill", container)
        prober = asyncio.create_task(try_unknown_keys(statuses))
        await asyncio.sleep(seconds)
        prober.cancel()
        await asyncio.to_thread(run, "docker", "start", container)
        restored = monotonic()
        recovery = await _wait_for_response(key) - restored
        await asyncio.sleep(SETTLE_SECONDS)
        # Failures of requests that began after this are no part of the outage.
        recovered = restored + recovery + outage.spread
    failed = load.select(lambda request: request.outcome != OK)
    is_right = all(
        request.outcome in outage.allowed
        and request.began < (killed + 1 if outage.only_running else recovered)
        for request in failed
    ) and (outage.unknown_key is None or statuses <= {outage.unknown_key})
    complete = len(load.requests) - len(failed)
    recovery = max([recovery, *(request.began - restored for request in failed)])
    row = Row(
        outage.service, restored - killed, len(load.requests), complete, count_outcomes(failed),
        ", ".join(map(str, sorted(statuses))), *measure_chats(load.requests), recovery, is_right,
    )  # fmt: skip
    return row, load.requests


async def _wait_for_response(key: str) -> float:
    """Return the time of the first complete response."""
    async with make_client(key) as client:
        while (await send(client, "recovery", is_stream=False)).outcome != OK:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
        return monotonic()


def format_table(rows: Sequence[Row]) -> str:
    """Format the rows as a Markdown table."""
    lines = [
        "| killed | for | requests | whole | failures | unknown keys | median | p99 | recovery |",
        "|---|--:|--:|--:|---|---|--:|--:|--:|",
    ]
    for r in rows:
        cells = [
            *(r.service, f"{r.seconds:.0f} s", r.requests, r.complete, r.failures, r.unknown_keys),
            *(f"{r.median:.0f} ms", f"{r.p99:.0f} ms", f"{r.recovery:.1f} s"),
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |" + ("" if r.is_right else " **wrong**"))
    return "\n".join(lines)


async def measure(stack: Stack, options: argparse.Namespace) -> bool:
    """Start, check and kill; returns whether everything is right."""
    key, seconds = await start(stack)
    print(f"first response through nginx and TLS after {seconds:.0f} s")
    print(await check_limit(stack))
    print(await asyncio.to_thread(stack.query_prometheus, "up"))
    if options.start_only:
        return True
    rows, requests = [], list[Request]()
    for outage in OUTAGES:
        if options.only and outage.service not in options.only:
            continue
        row, sent = await kill(stack, key, outage, options.seconds)
        rows.append(row)
        requests += sent
        print(format_table([row]).splitlines()[-1], file=sys.stderr)
    await asyncio.sleep(5)
    difference = compare_ledger(requests, await asyncio.to_thread(stack.read_ledger))
    print(format_table(rows))
    complete = sum(row.complete for row in rows)
    print(f"ledger: {difference or 'every one'} of {complete} complete responses")
    return not difference and all(row.is_right for row in rows)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--engine", choices=["mock", "max"], default="mock")
    parser.add_argument("--seconds", type=float, default=15, help="of each outage (default: 15)")
    parser.add_argument("--start-only", action="store_true", help="kill nothing")
    parser.add_argument(
        "--only",
        action="append",
        choices=[outage.service for outage in OUTAGES],
        help="kill this service, repeatable (default: all)",
    )
    parser.add_argument("--keep", action="store_true", help="leave the containers running")
    parser.add_argument("--reuse", action="store_true", help="use those that --keep has left")
    options = parser.parse_args()
    if not options.reuse:
        build_images(options.engine)
    with run_stack(options.engine, keep=options.keep, reuse=options.reuse) as stack:
        return 0 if asyncio.run(measure(stack, options)) else 1


if __name__ == "__main__":
    sys.exit(main())
