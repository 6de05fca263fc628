"""Profile a chat request that is not streamed, by part of the gateway.

    python -m benchmarks.gateway.profile [--seconds 5]

The gateway runs under cProfile while wrk sends requests as fast as it gets responses. The profiler
adds time to every call, so only shares are meaningful; time in C code counts for its caller.
"""

import argparse
import pstats
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.gateway.cases import measure_chat
from benchmarks.gateway.environments import ROOT
from benchmarks.gateway.gateways import MAXGATE, Gateway, StartOptions
from benchmarks.gateway.processes import choose_cores, exit_on_sigterm
from benchmarks.gateway.prompts import Bodies, fill_template, load_token_counter
from benchmarks.gateway.stack import run_gateway, run_stand_in
from benchmarks.gateway.table import format_markdown

# The first match counts; paths are relative to the project or site-packages.
_PARTS = {
    "sockets: batched writes": ("maxgate/net/write_buffer",),
    "HTTP/1.1: parse the request, write the response": (
        "uvicorn/", "maxgate/server/", "maxgate/net/idle_timer",
    ),
    "read and validate the body": ("maxgate/api/request_body", "pydantic/"),
    "convert OpenAI's request": (
        "maxgate/api/chat/converters", "maxgate/api/chat/schemas", "maxgate/api/sampling",
        "maxgate/upstream/catalog",
    ),
    "messages to token ids": ("maxgate/prompts/",),
    "call the engine: pool, request, response": ("maxgate/upstream/",),
    "build OpenAI's response": (
        "maxgate/api/chat/", "maxgate/api/schemas", "maxgate/ids", "maxgate/generation/collect",
    ),
    "metrics and logging": ("maxgate/telemetry/", "maxgate/clock"),
    "dispatch between layers": ("maxgate/", "fastapi/", "starlette/", "contextlib"),
}  # fmt: skip
_REST = "other"


def sum_by_part(stats: dict[Any, Any], requests: int) -> tuple[Counter[str], float]:
    """Return the seconds spent in each part, and the calls per request.

    `stats` is from pstats. Functions called in fewer than half of the requests belong to the start
    of the gateway and are ignored.
    """
    seconds: Counter[str] = Counter()
    calls = 0
    for (file, _, _), (_, count, own_seconds, _, callers) in stats.items():
        # C functions have no file: their time counts for the callers.
        entries = callers.items() if file == "~" else [((file,), (0, count, own_seconds, 0))]
        for (caller, *_), (_, times, cost, _) in entries:
            if times > requests / 2:
                seconds[_find_part(caller)] += cost
                calls += times
    return seconds, calls / requests


def _find_part(file: str) -> str:
    path = file.removeprefix(f"{ROOT}/").rpartition("site-packages/")[2].rpartition("/lib/")[2]
    found = (part for part, places in _PARTS.items() if any(place in path for place in places))
    return next(found, _REST)


def _build_profiled_gateway(out: Path) -> Gateway:
    def start(options: StartOptions) -> list[str]:
        _, *program = MAXGATE.command(options)
        return [sys.executable, "-m", "cProfile", "-o", str(out), *program]

    return Gateway(MAXGATE.name, MAXGATE.version, start)


def main() -> None:
    """Run the profile and print a table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gateway.profile", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--seconds", type=float, default=5, help="seconds of load (default: 5)")
    arguments = parser.parse_args()
    exit_on_sigterm()
    gateway_core, other_core = choose_cores()
    bodies = Bodies.build(load_token_counter())
    out = ROOT / ".bench" / "chat.profile"
    with run_stand_in(other_core) as engine:
        first = fill_template(bodies.short, 0)
        profiled = _build_profiled_gateway(out)
        with run_gateway(profiled, engine, first, gateway_core) as gateway:
            measure_chat(gateway, bodies, arguments.seconds)
        requests = int(engine.fetch_counts()["requests"])
    stats: Any = pstats.Stats(str(out))
    seconds, calls = sum_by_part(stats.stats, requests)
    total = sum(seconds.values())
    rows = [[part, f"{own / total:.0%}"] for part, own in seconds.most_common()]
    print(f"{requests:,} requests, {calls:.0f} calls each\n")
    print(format_markdown([["part", "share"], *rows]))
    print(f"\nFunction by function: python -m pstats {out.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
