"""Where the time of a chat request goes that is not streamed.

    python -m benchmarks.gateway.profile [--seconds 5]

The gateway runs under cProfile while wrk asks as fast as it is answered. The profiler takes time
for every call, so that only shares mean something; what C code takes is its caller's.
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

# The first that fits; paths as they stand below the project or site-packages.
_PARTS = {
    "sockets: what a turn wrote": ("maxgate/writes",),
    "HTTP/1.1: the request read, the answer written": (
        "uvicorn/", "maxgate/api/protocol", "maxgate/api/exchange", "maxgate/api/joined_writes",
        "maxgate/api/head", "maxgate/deadline",
    ),
    "the body read and validated": ("maxgate/api/body", "maxgate/api/structure", "pydantic/"),
    "OpenAI's request as ours": (
        "maxgate/api/chat/asked", "maxgate/api/chat/dialogue", "maxgate/api/chat/wire",
        "maxgate/api/sampling", "maxgate/api/abilities", "maxgate/upstream/catalog",
    ),
    "messages to token ids": ("maxgate/prompts/",),
    "asking the engine: pool, request, response": ("maxgate/upstream/",),
    "OpenAI's answer": (
        "maxgate/api/chat/", "maxgate/api/responses", "maxgate/api/usage", "maxgate/ids",
        "maxgate/generation/collect",
    ),
    "counting and logging": ("maxgate/telemetry/", "maxgate/clock"),
    "from layer to layer": ("maxgate/", "contextlib"),
}  # fmt: skip
_REST = "the rest"


def parts_of(stats: dict[Any, Any], requests: int) -> tuple[Counter[str], float]:
    """Seconds of each part, and the calls that a request makes.

    Of what pstats knows of every function and its callers, that counts which was called in most
    requests; the rest is the start.
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
    """Run, print."""
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
