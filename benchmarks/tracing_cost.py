"""Measure the CPU time of tracing per chat request and per chunk of a stream.

    python -m benchmarks.tracing_cost [--rounds 15] [--seconds 1] [--json]

Gateways run without tracing, with all requests traced, with one of ten, and with all while the
collector is down; all at the same time on one core, and everything else on another one, a collector
of OTLP over HTTP included. Each round starts all of them anew and measures chat requests at
saturation, in turns, see `benchmarks.gateway.turns`; and then, one after the other in an order that
rotates, 256 streams with a chunk every 10 ms. CPU time is that of the whole process, so it contains
the export.

Shares are the median of each round's ratio to the gateway without tracing, with an interval that
contains the true median in 95 of 100 runs. Exits with 1 if tracing costs more of a chat request
than COMPARISON allows, or more of a chunk than noise: the interval of the share is above 1 %. Needs
wrk, and the extra `otel`.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Final

from benchmarks.added_cost import BASELINE, Comparison, build_parser, measure_rounds, run_comparison
from benchmarks.admission.stack import BODY, start_maxgate
from benchmarks.gateway.gateways import MAXGATE
from benchmarks.gateway.http_client import StandIn
from benchmarks.gateway.processes import choose_cores
from benchmarks.gateway.prompts import Bodies, load_token_counter
from benchmarks.gateway.results import Results
from benchmarks.gateway.stack import RunningGateway, run_gateway, run_stand_in

COMPARISON: Final = Comparison(
    "tracing", {BASELINE: 0.0, "all": 1.0, "one of ten": 0.2, "collector down": 1.0}
)
_CLOSED: Final = "http://127.0.0.1:9"
"""A port on which nothing listens."""


class _Collector(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:  # the name that the base class calls
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@contextmanager
def run_collector() -> Iterator[str]:
    """Run a collector in a thread; yields its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Collector)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


def build_environments(collector: str) -> Mapping[str, Mapping[str, str]]:
    """Build the variables of each variant."""
    ratio = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"}
    endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT"
    return {
        BASELINE: {},
        "all": {endpoint: collector},
        "one of ten": {endpoint: collector, **ratio},
        "collector down": {endpoint: _CLOSED},
    }


@contextmanager
def run_variant(
    variant: str, environment: Mapping[str, str], engine: StandIn, core: int
) -> Iterator[RunningGateway]:
    """Run a gateway on a core."""
    tracing = {"enabled": variant != BASELINE}
    command = partial(start_maxgate, has_metrics=False, tracing=tracing)
    gateway = replace(MAXGATE, name=f"maxgate, tracing {variant}", command=command)
    os.environ.update(environment)  # the gateway inherits it
    try:
        with run_gateway(gateway, engine, BODY, core) as running:
            for name in environment:
                del os.environ[name]
            yield running
    finally:
        for name in environment:
            os.environ.pop(name, None)


def measure(rounds: int, seconds: float) -> Results:
    """Measure all rounds; raises CaseFailed."""
    gateway_core, other_core = choose_cores()
    bodies = Bodies.build(load_token_counter())
    with ExitStack() as stack:
        collector = stack.enter_context(run_collector())
        engine = stack.enter_context(run_stand_in(other_core))
        starters = {
            name: partial(run_variant, name, environment, engine, gateway_core)
            for name, environment in build_environments(collector).items()
        }
        return measure_rounds(starters, bodies, rounds, seconds)


def main() -> int:
    """Measure and print a table."""
    options = build_parser(__doc__.partition("\n")[0]).parse_args()
    return run_comparison(COMPARISON, options, lambda: measure(options.rounds, options.seconds))


if __name__ == "__main__":
    sys.exit(main())
