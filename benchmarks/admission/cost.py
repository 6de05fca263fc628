"""Measure the CPU time of admission per chat request and per chunk of a stream.

    python -m benchmarks.admission.cost [--rounds 15] [--seconds 1] [--json] [--keep]

The gateway runs with `admission.enabled: false` and with slots that are never used up: with one
worker and with two, which share slots through a file, and with Redis. All of them run at the same
time on one core, and everything else on another one. Each round starts all of them anew and
measures chat requests at saturation, in turns, see `benchmarks.gateway.turns`; and then, one after
the other in an order that rotates, 256 streams with a chunk every 10 ms. CPU time is that of all
processes of the gateway, so it contains the renewals of leases.

Shares are the median of each round's ratio to the gateway with the same number of workers and
without admission, with an interval that contains the true median in 95 of 100 runs. Exits with 1
if admission costs more than 3 % of a chat request, or more of a chunk than noise: the interval of
the share is above 1 %. Needs wrk, and redis-server by the extra dev.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Final

from benchmarks.added_cost import CASES, MAX_CHUNK_SHARE, find_interval, measure_rounds
from benchmarks.admission.results import write_part
from benchmarks.admission.stack import BODY, start_maxgate
from benchmarks.gateway.cases import CaseFailed
from benchmarks.gateway.gateways import MAXGATE
from benchmarks.gateway.http_client import StandIn
from benchmarks.gateway.processes import choose_cores, exit_on_sigterm
from benchmarks.gateway.prompts import Bodies, load_token_counter
from benchmarks.gateway.results import Results
from benchmarks.gateway.stack import RunningGateway, run_gateway, run_stand_in
from tests.fakes.redis_server import start_redis

SLOTS: Final = 1000
MAX_REQUEST_SHARE: Final = 0.03


@dataclass(frozen=True)
class Variant:
    """A gateway to measure; admission is off without a `baseline`."""

    name: str
    workers: int = 1
    baseline: str = ""
    has_redis: bool = False


VARIANTS: Final = (
    Variant("off"),
    Variant("on", baseline="off"),
    Variant("on, Redis", baseline="off", has_redis=True),
    Variant("off, 2 workers", workers=2),
    Variant("on, 2 workers", workers=2, baseline="off, 2 workers"),
)


@dataclass(frozen=True)
class Cost:
    """The CPU time of a request or chunk in µs, and admission's share of it with its interval."""

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
            return self.share <= MAX_REQUEST_SHARE
        return self.low <= MAX_CHUNK_SHARE


@contextmanager
def run_variant(
    variant: Variant, engine: StandIn, core: int, redis_url: str
) -> Iterator[RunningGateway]:
    """Run a gateway on a core."""
    settings = {"slots": SLOTS} if variant.baseline else {"enabled": False}
    flags = ("--workers", str(variant.workers))
    command = partial(start_maxgate, has_metrics=False, admission=settings)
    gateway = replace(
        MAXGATE,
        name=f"maxgate, admission {variant.name}",
        command=lambda options: [*command(options), *flags],
        environment={"REDIS_URL": redis_url if variant.has_redis else ""},
    )
    with run_gateway(gateway, engine, BODY, core) as running:
        yield running


def measure(rounds: int, seconds: float) -> Results:
    """Measure all rounds; raises CaseFailed."""
    gateway_core, other_core = choose_cores()
    bodies = Bodies.build(load_token_counter())
    with ExitStack() as stack:
        engine = stack.enter_context(run_stand_in(other_core))  # and pins Redis
        redis_url = stack.enter_context(start_redis()).url
        starters = {
            variant.name: partial(run_variant, variant, engine, gateway_core, redis_url)
            for variant in VARIANTS
        }
        return measure_rounds(starters, bodies, rounds, seconds)


def summarize(results: Results) -> list[Cost]:
    """Return the cost of each variant with admission."""
    costs = []
    for variant in VARIANTS:
        for case in CASES:
            own = [value or 0.0 for value in results.values(variant.name, case, "cpu_us")]
            name = variant.baseline or variant.name
            base = [value or 0.0 for value in results.values(name, case, "cpu_us")]
            shares = [a / b - 1 for a, b in zip(own, base, strict=True)]
            share, cpu_us = statistics.median(shares), statistics.median(own)
            costs.append(Cost(variant.name, case, cpu_us, share, *find_interval(shares)))
    return costs


def format_table(costs: Sequence[Cost]) -> str:
    """Format the costs as a Markdown table."""
    baselines = {variant.name: variant.baseline for variant in VARIANTS}
    lines = ["| admission | of a | CPU | more | 95 % interval |", "|---|---|--:|--:|--:|"]
    for c in costs:
        more = [f"{c.share:+.1%}", f"{c.low:+.1%} to {c.high:+.1%}"]
        cells = [c.variant, c.case, f"{c.cpu_us:.1f} µs", *(more if baselines[c.variant] else "--")]
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
    parser.add_argument("--keep", action="store_true", help="write the result to RESULTS.md")
    options = parser.parse_args()
    exit_on_sigterm()
    try:
        costs = summarize(measure(options.rounds, options.seconds))
    except CaseFailed as reason:
        raise SystemExit(f"a gateway failed: {reason}") from None
    text = format_table(costs)
    print(json.dumps([asdict(cost) for cost in costs], indent=2) if options.json else text)
    if options.keep:
        rounds = f"Medians of {options.rounds} rounds of {options.seconds:g} s per measurement."
        write_part("Cost", "python -m benchmarks.admission.cost", f"{text}\n\n{rounds}")
    return 0 if all(cost.is_right for cost in costs) else 1


if __name__ == "__main__":
    sys.exit(main())
