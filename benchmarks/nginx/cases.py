"""The measurements; each returns rows of the table."""

import asyncio
import http.client
import json
import ssl
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

import psutil

from benchmarks.nginx.clients import (
    BODY,
    CHAT,
    StreamTimes,
    attack_by_resets,
    attack_slowly,
    create_tls,
    measure_http2_streams,
    measure_streams,
    read_milliseconds,
)
from benchmarks.nginx.stack import Replicas, run_nginx
from benchmarks.restart_clients import COMPLETE, HOST, Client, Results
from tests.fakes.nginx_attacks import is_refused, list_attacks, send_attack
from tests.fakes.nginx_server import NginxServer
from tests.fakes.waiting import until_holds

Rows = list[Sequence[str]]
Attacked = TypeVar("Attacked")
_KEEPALIVE = ("keepalive", "http.d")
_CLIENTS = 16
_RELOAD_INTERVAL = 1.0
_LOAD_TIMEOUT = 600
_MEGABYTE = 2**20


class _ChatClient:
    """Sends the same chat request over one connection."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._connection = (
            http.client.HTTPSConnection("localhost", port, timeout=60, context=tls)
            if tls is not None
            else http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        )
        self._body = json.dumps(BODY)

    def send(self) -> float:
        """Send the request; returns the seconds until the response is complete."""
        began = time.perf_counter()
        headers = {"content-type": "application/json"}
        self._connection.request("POST", CHAT, self._body, headers)
        response = self._connection.getresponse()
        response.read()
        assert response.status == 200, response.status
        return time.perf_counter() - began


def measure_latency(replicas: Replicas, requests: int) -> Rows:
    """Send requests directly and through nginx in alternation, over connections that stay open."""
    replicas.set_script(tokens=8, gap_ms=0)
    rows: Rows = []
    for title, options in (
        ("nginx", ()),
        ("nginx with auth_request", (("auth_request", "server.d"),)),
    ):
        with run_nginx(replicas, *options) as nginx:
            direct = _ChatClient(int(replicas.urls[0].rpartition(":")[2]))
            through = _ChatClient(nginx.port, create_tls(nginx.ca))
            for _ in range(50):
                direct.send(), through.send()
            began = _measure_cpu(nginx)
            pairs = [(direct.send(), through.send()) for _ in range(requests)]
            cpu = (_measure_cpu(nginx) - began) / requests * 1e6
        one, two = [d for d, _ in pairs], [t for _, t in pairs]
        median = statistics.median(t - d for d, t in pairs) * 1000
        values = [
            f"P{percent} {read_milliseconds(one, percent):.2f} ms directly, "
            f"{read_milliseconds(two, percent):.2f} ms through it"
            for percent in (50, 99)
        ]
        text = f"{median:.2f} ms (median of differences of {requests} pairs), {', '.join(values)}"
        rows += [
            (f"latency added by {title}", text),
            (f"CPU time of {title} per request", f"{cpu:.0f} µs"),
        ]
    return rows


def _measure_cpu(nginx: NginxServer) -> float:
    """Return the CPU seconds of nginx's workers."""
    workers = psutil.Process(nginx.process.pid).children()
    return sum(sum(worker.cpu_times()[:2]) for worker in workers)


def measure_all_streams(replicas: Replicas, count: int) -> Rows:
    """Run paced streams directly and through TLS, and on one connection of HTTP/2."""
    replicas.set_script(tokens=32, gap_ms=50)
    with run_nginx(replicas) as nginx:
        port = int(replicas.urls[0].rpartition(":")[2])
        direct = asyncio.run(measure_streams(HOST, port, count, None))
        through = asyncio.run(measure_streams("localhost", nginx.port, count, create_tls(nginx.ca)))
        http2 = asyncio.run(measure_http2_streams(nginx, count))
    return [
        _describe(f"{count} streams at once directly to one replica", direct, count),
        _describe(f"{count} streams at once through TLS, a connection each", through, count),
        _describe(f"{count} streams at once on one connection of HTTP/2", http2, count),
    ]


def _describe(title: str, times: StreamTimes, count: int) -> Sequence[str]:
    gaps = "/".join(f"{read_milliseconds(times.gaps, p):.0f}" for p in (50, 99))
    first = read_milliseconds(times.first, 50)
    return (
        title,
        f"{times.complete} of {count} complete, first event P50 {first:.0f} ms, gaps of 50 ms "
        f"P50/P99 {gaps} ms",
    )


def measure_slow_clients(replicas: Replicas, headers: int, bodies: int) -> Rows:
    """Attack by slow headers and bodies while other clients are served."""
    replicas.set_script(tokens=8, gap_ms=0)
    with run_nginx(replicas) as nginx:
        results, (header_end, body_end) = asyncio.run(
            _serve_during(nginx, attack_slowly, headers, bodies)
        )
    return [
        (f"{headers} clients with slow headers", f"all cut off after {header_end:.0f} s"),
        (f"{bodies} clients with slow bodies", f"all cut off after {body_end:.0f} s"),
        ("other clients meanwhile", _describe_results(results)),
    ]


def measure_rapid_reset(replicas: Replicas, connections: int, streams: int) -> Rows:
    """Open and cancel streams of HTTP/2 as fast as possible (CVE-2023-44487)."""
    replicas.set_script(tokens=8, gap_ms=0)
    with run_nginx(replicas) as nginx:
        attacked, sent = asyncio.run(_serve_during(nginx, attack_by_resets, connections, streams))
    title = f"other clients during {sent:,} streams that are reset at once"
    return [(title, _describe_results(attacked))]


async def _serve_during(
    nginx: NginxServer, attack: Callable[..., Attacked], *arguments: int
) -> tuple[Results, Attacked]:
    """Send requests of four clients while a process attacks; returns their results and its own."""
    results, is_over = Results(), asyncio.Event()
    clients = [asyncio.create_task(_send_until(is_over, nginx, results, seed)) for seed in range(4)]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        attacked = await asyncio.get_running_loop().run_in_executor(
            pool, attack, nginx.port, nginx.ca, *arguments
        )
    is_over.set()
    await asyncio.gather(*clients)
    return results, attacked


def measure_connections(replicas: Replicas, count: int) -> Rows:
    """Open connections over TLS, and send a request on each."""
    replicas.set_script(tokens=8, gap_ms=0)

    async def send_all(nginx: NginxServer) -> tuple[Results, int]:
        results, tls, opening = Results(), create_tls(nginx.ca), asyncio.Semaphore(100)
        clients = [Client(nginx.port, results, seed, tls) for seed in range(count)]

        async def send(client: Client) -> None:
            async with opening:
                await client.send()

        await asyncio.gather(*map(send, clients))
        memory = sum(
            process.memory_info().rss
            for process in psutil.Process(nginx.process.pid).children(recursive=True)
        )
        results.seconds.clear()
        await asyncio.gather(*map(send, clients))  # on the same connections
        await asyncio.gather(*(client.finish() for client in clients))
        return results, memory

    with run_nginx(replicas) as nginx:
        results, memory = asyncio.run(send_all(nginx))
    return [
        (f"{count:,} connections, two requests each", _describe_results(results)),
        (f"memory of nginx's workers with {count:,} connections", f"{memory / _MEGABYTE:.0f} MiB"),
    ]


def measure_reloads(replicas: Replicas, requests: int) -> Rows:
    """Reload nginx under load, with and without the option for newer versions."""
    replicas.set_script(tokens=8, gap_ms=5)

    async def reload(nginx: NginxServer) -> tuple[Results, int]:
        results, is_over = Results(), asyncio.Event()
        clients = [
            asyncio.create_task(_send_until(is_over, nginx, results, seed))
            for seed in range(_CLIENTS)
        ]
        count = 0
        while len(results.seconds) < requests:
            await asyncio.sleep(_RELOAD_INTERVAL)
            nginx.reload()
            count += 1
        is_over.set()
        await asyncio.gather(*clients)
        return results, count

    rows: Rows = []
    for title, options in (("", ()), (" with options/keepalive.conf", (_KEEPALIVE,))):
        with run_nginx(replicas, *options) as nginx:
            results, count = asyncio.run(reload(nginx))
        rows.append((f"{count} reloads under load{title}", _describe_results(results)))
    return rows


def measure_attacks(replicas: Replicas) -> Rows:
    """Send malformed and ambiguous requests, and look for hidden ones at the engine."""

    async def attack(nginx: NginxServer) -> list[str]:
        return [
            each.name
            for each in list_attacks()
            if not is_refused(each, *await send_attack(nginx, each))
        ]

    before = replicas.count_requests()
    with run_nginx(replicas) as nginx:
        passed = asyncio.run(attack(nginx))
    tried = len(list(list_attacks()))
    hidden = replicas.count_requests() - before
    value = f"{tried - len(passed)} of {tried} refused, {hidden} hidden requests served"
    return [("attacks", value + "".join(f"; passed: {name}" for name in passed))]


def measure_killed_replica(replicas: Replicas, requests: int) -> Rows:
    """Kill a replica under load."""
    replicas.set_script(tokens=8, gap_ms=5)

    async def kill(nginx: NginxServer) -> Results:
        results, is_over = Results(), asyncio.Event()
        clients = [
            asyncio.create_task(_send_until(is_over, nginx, results, seed))
            for seed in range(_CLIENTS)
        ]
        await until_holds(lambda: len(results.seconds) >= requests // 2, within=_LOAD_TIMEOUT)
        replicas.kill_last()
        await until_holds(lambda: len(results.seconds) >= requests, within=_LOAD_TIMEOUT)
        is_over.set()
        await asyncio.gather(*clients)
        return results

    with run_nginx(replicas) as nginx:
        results = asyncio.run(kill(nginx))
    title = f"one of {len(replicas.urls)} replicas killed, {_CLIENTS} requests at a time"
    return [(title, _describe_results(results))]


async def _send_until(
    is_over: asyncio.Event, nginx: NginxServer, results: Results, seed: int
) -> None:
    client = Client(nginx.port, results, seed, create_tls(nginx.ca))
    while not is_over.is_set():
        await client.send()
    await client.finish()


def _describe_results(results: Results) -> str:
    failed = results.count_failures(COMPLETE)
    others = {name: n for name, n in results.outcomes.items() if name != COMPLETE}
    times = "/".join(f"{read_milliseconds(results.seconds, p):.0f}" for p in (50, 99))
    detail = f" {others}" if others else ""
    total = results.outcomes.total()
    return f"{failed} of {total:,} requests failed{detail}, P50/P99 {times} ms"
