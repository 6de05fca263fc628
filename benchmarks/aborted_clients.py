"""What is left of clients that went away at random moments, with the real MAX.

    python benchmarks/aborted_clients.py [--clients 1000] [--at-once 4] [--patience 5.0]

Half of them stream. Each leaves after a random time, evenly spread over the powers of ten between
1 ms and the longest patience, so that some leave before the engine has the request, some while it
waits, and some in the middle of the answer. Afterwards MAX's own gauges, the gateway's
counts and its open connections to MAX are read.
"""

import argparse
import asyncio
import json
import random
import re
import time
import urllib.request
from collections import Counter

import psutil
from stack import Stack, get_json, running_stack

BODY = {
    "messages": [{"role": "user", "content": "Tell me a long story about the sea."}],
    "max_tokens": 300,
}
SHORTEST = 0.001


async def ask_and_leave(stack: Stack, *, stream: bool, after: float) -> str:
    """One client; says in which phase it left."""
    host, port = stack.gateway.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = json.dumps({**BODY, "stream": stream}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    phase = "before the first byte" if stream else "before the answer, not streamed"
    try:
        async with asyncio.timeout(after):
            while await reader.read(65536):
                phase = "in the middle" if stream else "with the answer, not streamed"
        phase = "after the end"
    except TimeoutError:
        pass
    finally:
        writer.close()
    return phase


async def run(stack: Stack, clients: int, at_once: int, patience: float, seed: int) -> Counter[str]:
    """All clients, a few at a time."""
    chance, gate = random.Random(seed), asyncio.Semaphore(at_once)
    plan = [
        (number % 2 == 0, SHORTEST * (patience / SHORTEST) ** chance.random())
        for number in range(clients)
    ]

    async def one(*, stream: bool, after: float) -> str:
        async with gate:
            return await ask_and_leave(stack, stream=stream, after=after)

    return Counter(await asyncio.gather(*(one(stream=s, after=a) for s, a in plan)))


def gauge(stack: Stack, name: str) -> float:
    """One of MAX's own numbers."""
    with urllib.request.urlopen(stack.engine_metrics, timeout=5) as answer:
        found = re.search(rf"^{name}(?:\{{.*?\}})? (\S+)", answer.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def open_connections(stack: Stack) -> int:
    """How many requests the gateway holds connections to MAX for, and idle ones."""
    port = int(stack.engine.rsplit(":", 1)[1])
    connections = psutil.Process(stack.pid).net_connections("tcp")
    return sum(1 for c in connections if c.raddr and c.raddr.port == port)


def state(stack: Stack) -> dict[str, float]:
    """Everything that should be nothing."""
    metrics = get_json(stack.gateway + "/metrics")
    health = get_json(stack.gateway + "/health")
    return {
        "MAX: requests running": gauge(stack, "maxserve_num_requests_running"),
        "MAX: requests queued": gauge(stack, "maxserve_num_requests_queued"),
        "gateway: requests in flight": metrics["requests"]["in_flight"],
        "gateway: held on the engine": health["engines"][0]["in_flight"],
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("--patience", type=float, default=5.0, help="seconds, the longest")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with running_stack() as stack:
        before = len(psutil.Process(stack.pid).open_files()), psutil.Process(stack.pid).num_fds()
        phases = asyncio.run(
            run(stack, arguments.clients, arguments.at_once, arguments.patience, arguments.seed)
        )
        left = time.perf_counter()
        quiet_after = None
        while time.perf_counter() - left < 10:
            now = state(stack)
            if not any(now.values()):
                quiet_after = time.perf_counter() - left
                break
        metrics = get_json(stack.gateway + "/metrics")
        print(f"{arguments.clients} clients, {arguments.at_once} at once; they left:")
        for phase, count in phases.most_common():
            print(f"  {phase:30}{count:6}")
        print("  counted by the gateway:", metrics["requests"]["by_outcome"])
        quiet = "never" if quiet_after is None else f"{quiet_after:.2f} s"
        print(f"all quiet {quiet} after the last one left:")
        for name, value in state(stack).items():
            print(f"  {name:30}{value:6g}")
        after = psutil.Process(stack.pid)
        print(f"  {'gateway: connections to MAX':30}{open_connections(stack):6}")
        print(
            f"  {'gateway: open files before':30}{before[1]:6}\n  {'after':30}{after.num_fds():6}"
        )


if __name__ == "__main__":
    main()
