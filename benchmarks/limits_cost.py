"""Measure the CPU time of limits per chat request and per chunk of a stream.

    python -m benchmarks.limits_cost [--rounds 15] [--seconds 1] [--json]

Gateways run without limits, with five limits and a budget that count in memory, and with the same
ones that count in a real Redis; all at the same time on one core, and everything else on another
one. No limit is reached. Each round starts all of them anew and measures chat requests at
saturation, in turns, see `benchmarks.gateway.turns`; and then, one after the other in an order that
rotates, 256 streams with a chunk every 10 ms.

Shares are the median of each round's ratio to the gateway without limits, with an interval that
contains the true median in 95 of 100 runs. Exits with 1 if limits cost more than 5 % of a chat
request, or more of a chunk than noise: the interval of the share is above 1 %. Also prints how many
scripts Redis has run, slots included, so that round trips per request can be told. Needs wrk.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Final

import redis

from benchmarks.added_cost import BASELINE, Comparison, build_parser, measure_rounds, run_comparison
from benchmarks.admission.stack import BODY, start_maxgate
from benchmarks.gateway.gateways import MAXGATE
from benchmarks.gateway.http_client import StandIn
from benchmarks.gateway.processes import choose_cores
from benchmarks.gateway.prompts import Bodies, load_token_counter
from benchmarks.gateway.results import Results
from benchmarks.gateway.stack import RunningGateway, run_gateway, run_stand_in
from tests.fakes.redis_server import start_redis

_MANY: Final = 10**9  # as real limits: more does not fit into one digit of an integer
LIMITS: Final = {
    "everyone": {"requests_per_minute": _MANY, "tokens_per_minute": _MANY},
    "each_project": {
        "tokens_per_day": _MANY,
        "requests_per_day": _MANY,
        "concurrent_requests": 1_000_000,
        "budgets": [{"unit": "tokens", "window": "month", "amount": _MANY}],
    },
}
COMPARISON: Final = Comparison("limits", {BASELINE: 0.0, "memory": 0.05, "redis": 0.05})


def build_configs(redis_url: str) -> Mapping[str, Mapping[str, Any]]:
    """Build the configuration of each variant."""
    return {
        BASELINE: {},
        "memory": {"limits": LIMITS},
        "redis": {"limits": LIMITS, "redis": {"url": redis_url}},
    }


@contextmanager
def run_variant(
    variant: str, config: Mapping[str, Any], engine: StandIn, core: int
) -> Iterator[RunningGateway]:
    """Run a gateway on a core."""
    command = partial(start_maxgate, has_metrics=False, **config)
    gateway = replace(MAXGATE, name=f"maxgate, limits {variant}", command=command)
    with run_gateway(gateway, engine, BODY, core) as running:
        yield running


def count_calls(url: str) -> int:
    """Return how many scripts Redis has run."""
    with redis.Redis.from_url(url) as client:
        return sum(
            int(stats["calls"])
            for name, stats in client.info("commandstats").items()
            if name.startswith("cmdstat_eval")
        )


def measure(rounds: int, seconds: float) -> tuple[Results, int]:
    """Measure all rounds, and count the scripts that Redis has run; raises CaseFailed."""
    gateway_core, other_core = choose_cores()
    bodies = Bodies.build(load_token_counter())
    with ExitStack() as stack:
        engine = stack.enter_context(run_stand_in(other_core))  # and pins Redis
        server = stack.enter_context(start_redis())
        starters = {
            name: partial(run_variant, name, config, engine, gateway_core)
            for name, config in build_configs(server.url).items()
        }
        results = measure_rounds(starters, bodies, rounds, seconds)
        return results, count_calls(server.url)


def main() -> int:
    """Measure and print a table."""
    options = build_parser(__doc__.partition("\n")[0]).parse_args()
    calls: list[int] = []

    def measure_and_count() -> Results:
        results, number = measure(options.rounds, options.seconds)
        calls.append(number)
        return results

    return run_comparison(COMPARISON, options, measure_and_count, calls.pop)


if __name__ == "__main__":
    sys.exit(main())
