"""What maxgate's memory does: over many requests, and with many streams open.

    python -m benchmarks.gateway.soak [--requests 300000] [--streams 2000] [--keep]

Half of the requests stream, one in ten is left by its client at a random moment. Resident size at
the end is set against that after the first sixth of them.
"""

import argparse
import time
from dataclasses import dataclass

from benchmarks.gateway.http_client import StandIn
from benchmarks.gateway.processes import cores, end_in_order, say
from benchmarks.gateway.prompts import filled, model_tokens
from benchmarks.gateway.report import describe, keep
from benchmarks.gateway.restless import RestlessClients
from benchmarks.gateway.rivals import Gateway, gateways
from benchmarks.gateway.stack import running, stand_in
from benchmarks.gateway.streams import Streams
from benchmarks.gateway.subject import Bodies
from benchmarks.gateway.table import OWN, markdown

_MEGABYTE = 2**20
_GROWTH_AIM, _STREAMS_AIM = 5, 150
_REPORTS = 12
_REST_SECONDS = 1.0


@dataclass(frozen=True)
class _Setting:
    gateway: Gateway
    engine: StandIn
    bodies: Bodies
    core: int


def _many_requests(setting: _Setting, requests: int) -> list[list[str]]:
    """Rows on how resident size grew."""
    setting.engine.follow(tokens=8, gap_ms=2, delay_ms=5)
    first = filled(setting.bodies.short, 0)
    with running(setting.gateway, setting.engine, first, setting.core) as subject:
        bodies = setting.bodies
        clients = RestlessClients(subject.target, bodies.short, bodies.streamed, leaving=0.1)
        sizes = []
        try:
            for step in range(1, _REPORTS + 1):
                clients.run(requests * step // _REPORTS)
                sizes.append(subject.process.resident_bytes() / _MEGABYTE)
                say(f"{clients.ended:,} requests, {clients.left:,} left: {sizes[-1]:.1f} MiB")
        finally:
            clients.close()
        time_to_rest = _until_no_streams(setting.engine)
    early = sizes[_REPORTS // 6 - 1]
    return [
        ["requests that ended", f"{clients.ended:,}", ""],
        ["of them left by the client", f"{clients.left:,}", ""],
        ["of them failed", f"{clients.failed:,}", "0"],
        ["resident after the first sixth, MiB", f"{early:.1f}", ""],
        ["resident at the end, MiB", f"{sizes[-1]:.1f}", ""],
        ["growth between them, MiB", f"{sizes[-1] - early:+.1f}", f"within {_GROWTH_AIM}"],
        ["streams that MAX still has 1 s after the last client", str(time_to_rest), "0"],
    ]


def _until_no_streams(engine: StandIn) -> int:
    end = time.monotonic() + _REST_SECONDS
    while (streams := int(engine.counts()["streams"])) and time.monotonic() < end:
        pass
    return streams


def _many_streams(setting: _Setting, count: int) -> list[list[str]]:
    """Rows on what open streams take in which nothing moves."""
    first = filled(setting.bodies.short, 0)
    setting.engine.follow(tokens=100, gap_ms=60_000)
    with running(setting.gateway, setting.engine, first, setting.core) as subject:
        idle = subject.process.resident_bytes() / _MEGABYTE
        streams = Streams()
        try:
            streams.open(subject.target, setting.bodies.streamed, count, seconds=count / 500)
            streams.read(2)
            opened = int(setting.engine.counts()["streams"])
            grown = subject.process.resident_bytes() / _MEGABYTE - idle
        finally:
            streams.close()
        left = _until_no_streams(setting.engine)
    say(f"{opened:,} streams: {grown:.1f} MiB over {idle:.1f} MiB")
    return [
        ["resident when idle, MiB", f"{idle:.1f}", ""],
        ["streams open", f"{opened:,}", f"{count:,}"],
        ["resident over the idle size, MiB", f"{grown:.1f}", f"under {_STREAMS_AIM}"],
        ["streams that MAX still has 1 s after all clients left", str(left), "0"],
    ]


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=300_000)
    parser.add_argument("--streams", type=int, default=2_000)
    parser.add_argument("--keep", action="store_true", help="write it down in RESULTS.md")
    arguments = parser.parse_args()
    end_in_order()
    gateway_core, beside = cores()
    gateway = next(gateway for gateway in gateways() if gateway.name == OWN)
    bodies = Bodies.make(model_tokens())
    with stand_in(beside) as engine:
        setting = _Setting(gateway, engine, bodies, gateway_core)
        rows = _many_streams(setting, arguments.streams)
        rows += _many_requests(setting, arguments.requests)
    text = f"{describe()}\n\n{markdown([['', 'measured', 'aim'], *rows])}"
    print(text)
    if arguments.keep:
        keep("Memory", text)


if __name__ == "__main__":
    main()
