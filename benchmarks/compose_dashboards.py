"""Run every query of the dashboards on docker-compose.full.yml itself, under load.

    python -m benchmarks.compose_dashboards [--engine mock] [--seconds 150] [--keep] [--reuse]

Clients stream and chat through nginx and TLS. Others have an unknown key, send invalid requests,
disconnect, exceed a limit or are refused by a guardrail. The gateways have rate cards. Lists the
queries that return no number, as benchmarks.dashboard_queries does. Exits with 1 if there are any
except those of GPUs, which the machine may not have.
"""

import argparse
import asyncio
import re
import sys
from contextlib import suppress
from typing import Final

import httpx

from benchmarks.compose_load import Load, count_outcomes, make_client
from benchmarks.compose_outages import CHATS, STREAMS, check_limit, start, try_unknown_keys
from benchmarks.compose_stack import CHAT, PROJECT, Stack, build_images, run, run_stack
from benchmarks.dashboard_queries import find_empty
from tests.fakes.dashboards import list_queries

PATH: Final = "/v1/chat/completions"
OPERATOR: Final = "benchmarks/compose_operator.yml"
BLOCKED: Final = [{"role": "user", "content": "A falcon."}]
EXPECTED: Final = re.compile("gpu", re.IGNORECASE)


async def disturb(key: str) -> None:
    """Send requests that are refused and leave a stream each second, until cancelled."""
    async with make_client(key) as client:
        while True:
            await client.post(PATH, json={"messages": "none"})
            await client.post(PATH, json={**CHAT, "messages": BLOCKED})
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await client.post(PATH, json={**CHAT, "stream": True, "max_tokens": 500})


def find_prometheus(stack: Stack) -> str:
    """Return the URL of Prometheus in its container, which publishes no port."""
    address = run(
        *("docker", "inspect", "--format"),
        f'{{{{(index .NetworkSettings.Networks "{PROJECT}_engine").IPAddress}}}}',
        stack.list_containers("prometheus")[0],
    )
    return f"http://{address}:9090"


async def measure(stack: Stack, seconds: float) -> bool:
    """Send load, run the queries, and print those without data."""
    key, _ = await start(stack)
    url, load = await asyncio.to_thread(find_prometheus, stack), Load(key, "dashboards")
    others = [asyncio.create_task(disturb(key)), asyncio.create_task(try_unknown_keys(set()))]
    print(await check_limit(stack))
    async with load.run(STREAMS, CHATS):
        await asyncio.sleep(seconds)
        with httpx.Client(base_url=url, timeout=30) as client:
            empty = await asyncio.to_thread(find_empty, client, "2m")
    for task in others:
        task.cancel()
    for query in empty:
        print(f"no data: {query.dashboard}/{query.panel}: {query.expression}")
    number = len(list(list_queries()))
    print(f"{len(load.requests)} requests, failures: {count_outcomes(load.requests)}")
    print(f"{number - len(empty)} of {number} queries have data")
    return all(EXPECTED.search(query.expression) for query in empty)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--engine", choices=["mock", "max"], default="mock")
    parser.add_argument("--seconds", type=float, default=150, help="of load (default: 150)")
    parser.add_argument("--keep", action="store_true", help="leave the containers running")
    parser.add_argument("--reuse", action="store_true", help="use those that --keep has left")
    options = parser.parse_args()
    if not options.reuse:
        build_images(options.engine)
    with run_stack(options.engine, OPERATOR, keep=options.keep, reuse=options.reuse) as stack:
        return 0 if asyncio.run(measure(stack, options.seconds)) else 1


if __name__ == "__main__":
    sys.exit(main())
