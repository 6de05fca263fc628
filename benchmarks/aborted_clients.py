"""What is left of clients that went away at random moments, with the real MAX.

    python benchmarks/aborted_clients.py [--clients 1000] [--at-once 4] [--config FILE]

Half of them stream. Each leaves after a random time, evenly spread over the powers of ten between
1 ms and the longest patience, so that some leave before the engine has the request, some while it
waits, and some in the middle of the answer. Afterwards MAX is watched until it computes nothing
more, and its gauges, the gateway's counts and its open connections to MAX are read. What MAX
computes is told by its count of batches: its gauges show 0 running while it goes on for clients
that left.
"""

import argparse
import asyncio
import json
import random
import re
import threading
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
WATCHED_SECONDS = 60
STILL_SECONDS = 0.5  # many times what a batch takes here


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


def batches(stack: Stack) -> float:
    """How many batches MAX has computed so far."""
    with urllib.request.urlopen(stack.engine_metrics, timeout=5) as answer:
        found = re.findall(
            r"^maxserve_batch_execution_time_milliseconds_count\S* (\S+)",
            answer.read().decode(),
            re.MULTILINE,
        )
    return sum(map(float, found))


def seconds_until_still(stack: Stack) -> float | None:
    """When MAX computed its last batch, from now; None where it does not end."""
    began, pause = time.perf_counter(), threading.Event()
    before, since = batches(stack), began
    while time.perf_counter() - began < WATCHED_SECONDS:
        pause.wait(0.05)
        now = batches(stack)
        if now != before:
            before, since = now, time.perf_counter()
        elif time.perf_counter() - since > STILL_SECONDS:
            return since - began
    return None


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
    parser.add_argument("--config", help="a YAML file of settings for the gateway")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    flags = ("--config", arguments.config) if arguments.config else ()
    with running_stack(*flags) as stack:
        before = len(psutil.Process(stack.pid).open_files()), psutil.Process(stack.pid).num_fds()
        phases = asyncio.run(
            run(stack, arguments.clients, arguments.at_once, arguments.patience, arguments.seed)
        )
        still = seconds_until_still(stack)
        metrics = get_json(stack.gateway + "/metrics")
        print(f"{arguments.clients} clients, {arguments.at_once} at once; they left:")
        for phase, count in phases.most_common():
            print(f"  {phase:30}{count:6}")
        print("  counted by the gateway:", metrics["requests"]["by_outcome"])
        when = f"not within {WATCHED_SECONDS} s of" if still is None else f"{still:.2f} s after"
        print(f"MAX computed nothing more {when} the last departure:")
        for name, value in state(stack).items():
            print(f"  {name:30}{value:6g}")
        after = psutil.Process(stack.pid)
        print(f"  {'gateway: connections to MAX':30}{open_connections(stack):6}")
        print(
            f"  {'gateway: open files before':30}{before[1]:6}\n  {'after':30}{after.num_fds():6}"
        )


if __name__ == "__main__":
    main()
