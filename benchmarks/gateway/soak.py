"""Measure maxgate's memory over many requests and with many open streams.

    python -m benchmarks.gateway.soak [--requests 300000] [--streams 2000] [--keep]

Half of the requests stream. In one of ten the client disconnects at a random time. Growth is the
resident size at the end minus the size after the first sixth of the requests.
"""

import argparse
import time
from dataclasses import dataclass

from benchmarks.gateway.gateways import MAXGATE
from benchmarks.gateway.http_client import StandIn
from benchmarks.gateway.processes import choose_cores, exit_on_sigterm, print_progress
from benchmarks.gateway.prompts import Bodies, fill_template, load_token_counter
from benchmarks.gateway.report import describe_environment, write_section
from benchmarks.gateway.stack import run_gateway, run_stand_in
from benchmarks.gateway.stream_load import DisconnectingClients, StreamReaders
from benchmarks.gateway.table import format_markdown

_MEGABYTE = 2**20
_MAX_GROWTH = 5
_MAX_STREAM_MEMORY = 150
_STEPS = 12
_CANCEL_TIMEOUT = 1.0


@dataclass(frozen=True)
class _Setup:
    engine: StandIn
    bodies: Bodies
    core: int


def _measure_requests(setup: _Setup, requests: int) -> list[list[str]]:
    """Return rows about the growth of the resident size over many requests."""
    setup.engine.set_script(tokens=8, gap_ms=2, delay_ms=5)
    bodies = setup.bodies
    first = fill_template(bodies.short, 0)
    with run_gateway(MAXGATE, setup.engine, first, setup.core) as gateway:
        clients = DisconnectingClients(
            gateway.target, bodies.short, bodies.streamed, disconnect_share=0.1
        )
        sizes = []
        try:
            for step in range(1, _STEPS + 1):
                clients.run(requests * step // _STEPS)
                sizes.append(gateway.process.resident_bytes() / _MEGABYTE)
                print_progress(
                    f"{clients.ended:,} requests, {clients.disconnected:,} disconnected: "
                    f"{sizes[-1]:.1f} MiB"
                )
        finally:
            clients.close()
        streams = _count_streams_after_disconnect(setup.engine)
    early = sizes[_STEPS // 6 - 1]
    return [
        ["finished requests", f"{clients.ended:,}", ""],
        ["- disconnected by the client", f"{clients.disconnected:,}", ""],
        ["- failed", f"{clients.failed:,}", "0"],
        ["resident after the first sixth, MiB", f"{early:.1f}", ""],
        ["resident at the end, MiB", f"{sizes[-1]:.1f}", ""],
        ["growth between the two, MiB", f"{sizes[-1] - early:+.1f}", f"within {_MAX_GROWTH}"],
        ["streams open in MAX 1 s after the last client disconnected", str(streams), "0"],
    ]


def _count_streams_after_disconnect(engine: StandIn) -> int:
    """Poll until no stream is open, for at most a second; returns the streams still open."""
    end = time.monotonic() + _CANCEL_TIMEOUT
    while (streams := int(engine.fetch_counts()["streams"])) and time.monotonic() < end:
        pass
    return streams


def _measure_streams(setup: _Setup, count: int) -> list[list[str]]:
    """Return rows about the memory of open streams without traffic."""
    first = fill_template(setup.bodies.short, 0)
    setup.engine.set_script(tokens=100, gap_ms=60_000)
    with run_gateway(MAXGATE, setup.engine, first, setup.core) as gateway:
        idle = gateway.process.resident_bytes() / _MEGABYTE
        streams = StreamReaders()
        try:
            streams.open(gateway.target, setup.bodies.streamed, count, seconds=count / 500)
            streams.read(2)
            opened = int(setup.engine.fetch_counts()["streams"])
            growth = gateway.process.resident_bytes() / _MEGABYTE - idle
        finally:
            streams.close()
        remaining = _count_streams_after_disconnect(setup.engine)
    print_progress(f"{opened:,} streams: {growth:.1f} MiB over {idle:.1f} MiB")
    return [
        ["resident when idle, MiB", f"{idle:.1f}", ""],
        ["open streams", f"{opened:,}", f"{count:,}"],
        ["resident over the idle size, MiB", f"{growth:.1f}", f"under {_MAX_STREAM_MEMORY}"],
        ["streams open in MAX 1 s after all clients disconnected", str(remaining), "0"],
    ]


def main() -> None:
    """Measure, print and keep the result."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gateway.soak", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "--requests", type=int, default=300_000, help="number of requests (default: 300000)"
    )
    parser.add_argument(
        "--streams", type=int, default=2_000, help="number of open streams (default: 2000)"
    )
    parser.add_argument("--keep", action="store_true", help="write the result to RESULTS.md")
    arguments = parser.parse_args()
    exit_on_sigterm()
    gateway_core, other_core = choose_cores()
    bodies = Bodies.build(load_token_counter())
    with run_stand_in(other_core) as engine:
        setup = _Setup(engine, bodies, gateway_core)
        rows = _measure_streams(setup, arguments.streams)
        rows += _measure_requests(setup, arguments.requests)
    table = format_markdown([["", "measured", "goal"], *rows])
    text = f"{describe_environment()}\n\n{table}"
    print(text)
    if arguments.keep:
        write_section("Memory", text)


if __name__ == "__main__":
    main()
