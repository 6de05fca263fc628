"""Measure the CPU time of limits per chat request and per chunk of a stream.

    python -m benchmarks.limits_cost [--rounds 15] [--seconds 1] [--json]

Gateways run without limits, with five limits and a budget that count in memory, and with the same
ones that count in a real Redis; all at the same time on one core, and everything else on another
one; only one is under load. No limit is reached. Each round measures all, in an order that rotates:
chat requests at saturation, and 256 streams with a chunk every 10 ms.

Shares are the median of each round's ratio to the gateway without limits, with an interval that
contains the true median in 95 of 100 runs. Exits with 1 if limits cost more than 5 % of a chat
request, or more of a chunk than noise: the interval of the share is above 1 %. Also prints how many
scripts Redis has run, slots included, so that round trips per request can be told. Needs wrk.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Final

import redis

from benchmarks.admission.cost import CASES, find_interval, measure_rounds
from benchmarks.admission.stack import BODY, start_maxgate
from benchmarks.gateway.cases import CaseFailed
from benchmarks.gateway.gateways import MAXGATE
from benchmarks.gateway.http_client import StandIn
from benchmarks.gateway.processes import choose_cores, exit_on_sigterm
from benchmarks.gateway.prompts import Bodies, load_token_counter
from benchmarks.gateway.results import Results
from benchmarks.gateway.stack import RunningGateway, run_gateway, run_stand_in
from tests.fakes.redis_server import start_redis

BASELINE: Final = "none"
MAX_CHUNK_SHARE: Final = 0.01
MAX_REQUEST_SHARE: Final = 0.05
VARIANTS: Final = (BASELINE, "memory", "redis")
_MANY: Final = 10**12
LIMITS: Final = {
    "everyone": {"requests_per_minute": _MANY, "tokens_per_minute": _MANY},
    "each_project": {
        "tokens_per_day": _MANY,
        "requests_per_day": _MANY,
        "concurrent_requests": 1_000_000,
        "budgets": [{"unit": "tokens", "window": "month", "amount": 10**9}],
    },
}


@dataclass(frozen=True)
class Cost:
    """The CPU time of a request or chunk in µs, and the share that a variant adds."""

    variant: str
    case: str
    cpu_us: float
    share: float
    low: float
    high: float

    @property
    def is_right(self) -> bool:
        """Whether the bound is kept."""
        if self.case == "request":
            return self.variant == BASELINE or self.share <= MAX_REQUEST_SHARE
        return self.low <= MAX_CHUNK_SHARE


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
        server = stack.enter_context(start_redis())
        engine = stack.enter_context(run_stand_in(other_core))
        gateways = {
            name: stack.enter_context(run_variant(name, config, engine, gateway_core))
            for name, config in build_configs(server.url).items()
        }
        results = measure_rounds(gateways, bodies, rounds, seconds)
        return results, count_calls(server.url)


def summarize(results: Results) -> list[Cost]:
    """Return the cost of each variant."""
    costs = []
    for variant in VARIANTS:
        for case in CASES:
            own = [value or 0.0 for value in results.values(variant, case, "cpu_us")]
            base = [value or 0.0 for value in results.values(BASELINE, case, "cpu_us")]
            shares = [a / b - 1 for a, b in zip(own, base, strict=True)]
            share, cpu_us = statistics.median(shares), statistics.median(own)
            costs.append(Cost(variant, case, cpu_us, share, *find_interval(shares)))
    return costs


def format_table(costs: Sequence[Cost]) -> str:
    """Format the costs as a Markdown table."""
    lines = ["| limits | of a | CPU | more | 95 % interval |", "|---|---|--:|--:|--:|"]
    for c in costs:
        more = [f"{c.share:+.1%}", f"{c.low:+.1%} to {c.high:+.1%}"]
        cells = [
            c.variant,
            c.case,
            f"{c.cpu_us:.1f} µs",
            *(more if c.variant != BASELINE else "--"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="number of rounds (default: 15)")
    parser.add_argument(
        "--seconds", type=float, default=1, help="seconds per measurement (default: 1)"
    )
    parser.add_argument("--json", action="store_true", help="print the values as JSON")
    options = parser.parse_args()
    exit_on_sigterm()
    try:
        results, calls = measure(options.rounds, options.seconds)
    except CaseFailed as reason:
        raise SystemExit(f"a gateway failed: {reason}") from None
    costs = summarize(results)
    if options.json:
        print(json.dumps({"costs": [asdict(cost) for cost in costs], "calls": calls}, indent=2))
    else:
        print(f"{format_table(costs)}\n\nRedis has run {calls} scripts.")
    return 0 if all(cost.is_right for cost in costs) else 1


if __name__ == "__main__":
    sys.exit(main())
