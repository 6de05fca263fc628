"""Check that disconnected clients leave no work behind in the gateway and the real MAX.

    python benchmarks/aborted_clients.py [--clients 1000] [--at-once 4] [--config FILE]

Half of the clients stream. Each disconnects after a random time, log-uniform between 1 ms and
`--patience`: before MAX has the request, while it is queued, or in the middle of the response.
Afterwards the script waits until MAX is idle and reads the gauges of MAX, the counts of the gateway
and its connections to MAX. MAX is idle when its count of batches stops growing: its gauges show 0
running requests even while it computes for disconnected clients.
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
from stack import Stack, get_json, run_stack

BODY = {
    "messages": [{"role": "user", "content": "Tell me a long story about the sea."}],
    "max_tokens": 300,
}
MIN_PATIENCE = 0.001
IDLE_TIMEOUT = 60
BATCHES = "maxserve_batch_execution_time_milliseconds_count"
IDLE_SECONDS = 0.5  # many times the duration of a batch


async def send_and_disconnect(stack: Stack, *, stream: bool, after: float) -> str:
    """Send a request and disconnect after some seconds; returns the phase of the request then."""
    host, port = stack.gateway_url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = json.dumps({**BODY, "stream": stream}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    phase = "before the first byte" if stream else "before the response, not streamed"
    try:
        async with asyncio.timeout(after):
            while await reader.read(65536):
                phase = "during the stream" if stream else "during the response, not streamed"
        phase = "after the response"
    except TimeoutError:
        pass
    finally:
        writer.close()
    return phase


async def run_clients(stack: Stack, options: argparse.Namespace) -> Counter[str]:
    """Run all clients with limited concurrency; counts the phases in which they disconnect."""
    chance, limit = random.Random(options.seed), asyncio.Semaphore(options.at_once)
    patience = options.patience
    plan = [
        (number % 2 == 0, MIN_PATIENCE * (patience / MIN_PATIENCE) ** chance.random())
        for number in range(options.clients)
    ]

    async def run_client(*, stream: bool, after: float) -> str:
        async with limit:
            return await send_and_disconnect(stack, stream=stream, after=after)

    return Counter(await asyncio.gather(*(run_client(stream=s, after=a) for s, a in plan)))


def sum_metric(stack: Stack, name: str) -> float:
    """Sum a metric of MAX over all label sets; 0 if it is missing."""
    with urllib.request.urlopen(stack.metrics_url, timeout=5) as response:
        text = response.read().decode()
    found = re.findall(rf"^{name}(?:\{{.*?\}})? (\S+)", text, re.MULTILINE)
    return sum(map(float, found))


def wait_until_idle(stack: Stack) -> float | None:
    """Return the seconds from now to the last batch of MAX; None if it is still busy after 60 s."""
    began, pause = time.perf_counter(), threading.Event()
    before, since = sum_metric(stack, BATCHES), began
    while time.perf_counter() - began < IDLE_TIMEOUT:
        pause.wait(0.05)
        now = sum_metric(stack, BATCHES)
        if now != before:
            before, since = now, time.perf_counter()
        elif time.perf_counter() - since > IDLE_SECONDS:
            return since - began
    return None


def count_connections(stack: Stack) -> int:
    """Count the gateway's connections to MAX, idle ones included."""
    port = int(stack.engine_url.rsplit(":", 1)[1])
    connections = psutil.Process(stack.pid).net_connections("tcp")
    return sum(bool(c.raddr) and c.raddr.port == port for c in connections)


def read_gauges(stack: Stack) -> dict[str, float]:
    """Read the gauges that have to be 0 without clients."""
    metrics = get_json(stack.gateway_url + "/metrics")
    health = get_json(stack.gateway_url + "/health")
    return {
        "MAX: requests running": sum_metric(stack, "maxserve_num_requests_running"),
        "MAX: requests queued": sum_metric(stack, "maxserve_num_requests_queued"),
        "gateway: requests in flight": metrics["requests"]["in_flight"],
        "gateway: in flight on the engine": health["engines"][0]["in_flight"],
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--clients", type=int, default=1000, help="number of clients (default: 1000)"
    )
    parser.add_argument("--at-once", type=int, default=4, help="concurrent clients (default: 4)")
    parser.add_argument("--patience", type=float, default=5.0, help="maximum seconds (default: 5)")
    parser.add_argument("--config", help="YAML settings file of the gateway")
    parser.add_argument("--seed", type=int, default=1, help="random seed (default: 1)")
    arguments = parser.parse_args()
    flags = ("--config", arguments.config) if arguments.config else ()
    with run_stack(*flags) as stack:
        files_before = psutil.Process(stack.pid).num_fds()
        phases = asyncio.run(run_clients(stack, arguments))
        idle_after = wait_until_idle(stack)
        print(f"{arguments.clients} clients, {arguments.at_once} concurrent; phase at disconnect:")
        for phase, count in phases.most_common():
            print(f"  {phase:32}{count:6}")
        outcomes = get_json(stack.gateway_url + "/metrics")["requests"]["by_outcome"]
        print("  counted by the gateway:", outcomes)
        when = f"still busy {IDLE_TIMEOUT} s" if idle_after is None else f"idle {idle_after:.2f} s"
        print(f"MAX is {when} after the last disconnect:")
        files_after = psutil.Process(stack.pid).num_fds()
        for name, value in {
            **read_gauges(stack),
            "gateway: connections to MAX": count_connections(stack),
            "gateway: open files before": files_before,
            "gateway: open files after": files_after,
        }.items():
            print(f"  {name:32}{value:6g}")


if __name__ == "__main__":
    main()
