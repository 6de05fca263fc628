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

from benchmarks.gateway.environments import ROOT
from benchmarks.gateway.processes import cores, end_in_order
from benchmarks.gateway.prompts import filled, model_tokens
from benchmarks.gateway.rivals import Gateway, Place, gateways
from benchmarks.gateway.saturation import chat
from benchmarks.gateway.stack import running, stand_in
from benchmarks.gateway.subject import Bodies
from benchmarks.gateway.table import OWN, markdown

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
    "dispatch between layers": ("maxgate/", "contextlib"),
}  # fmt: skip
_REST = "other"


def parts_of(stats: dict[Any, Any], requests: int) -> tuple[Counter[str], float]:
    """Return the seconds spent in each part, and the calls per request.

    `stats` is from pstats. Functions called in fewer than half of the requests belong to the start
    of the gateway and are ignored.
    """
    seconds: Counter[str] = Counter()
    calls = 0
    for (file, _, _), (_, times, own, _, callers) in stats.items():
        by_whom = callers.items() if file == "~" else [((file,), (0, times, own, 0))]
        for (caller, *_), (_, there, cost, _) in by_whom:
            if there > requests / 2:
                seconds[_part(caller)] += cost
                calls += there
    return seconds, calls / requests


def _part(file: str) -> str:
    path = file.removeprefix(f"{ROOT}/").rpartition("site-packages/")[2].rpartition("/lib/")[2]
    found = (part for part, places in _PARTS.items() if any(place in path for place in places))
    return next(found, _REST)


def _profiled(own: Gateway, out: Path) -> Gateway:
    def command(place: Place) -> list[str]:
        _, *program = own.command(place)
        return [sys.executable, "-m", "cProfile", "-o", str(out), *program]

    return Gateway(own.name, own.version, command)


def main() -> None:
    """Run the profile and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=5)
    arguments = parser.parse_args()
    end_in_order()
    gateway_core, beside = cores()
    own = next(gateway for gateway in gateways() if gateway.name == OWN)
    bodies = Bodies.make(model_tokens())
    out = ROOT / ".bench" / "chat.profile"
    with stand_in(beside) as engine:
        first = filled(bodies.short, 0)
        with running(_profiled(own, out), engine, first, gateway_core) as subject:
            chat(subject, bodies, arguments.seconds)
        requests = int(engine.counts()["requests"])
    stats: Any = pstats.Stats(str(out))
    seconds, calls = parts_of(stats.stats, requests)
    whole = sum(seconds.values())
    rows = [[part, f"{share / whole:.0%}"] for part, share in seconds.most_common()]
    print(f"{requests:,} requests, {calls:.0f} calls each\n")
    print(markdown([["part", "share"], *rows]))
    print(f"\nFunction by function: python -m pstats {out.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
