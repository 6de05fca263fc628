"""Measure the CPU time of the ledger of usage per chat request and per chunk of a stream.

    python -m benchmarks.usage_cost [--rounds 15] [--seconds 1] [--json]

Gateways run without a ledger, with one in SQLite, and with one in PostgreSQL; all at the same time
on one core, and everything else on another one; only one is under load. The CPU time of the server
of PostgreSQL is not included, and that of moving lines to the database is. Each round measures
all, in an order that rotates: chat requests at saturation, and 256 streams with a chunk every
10 ms.

Shares are the median of each round's ratio to the gateway without a ledger, with an interval that
contains the true median in 95 of 100 runs. Exits with 1 if the ledger costs more than 8 % of a
chat request, which is the bound of limits, budgets and ledger together, or more of a chunk than
noise: the interval of the share is above 1 %. Needs wrk.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks.admission.cost import CASES, find_interval, measure_rounds
from benchmarks.admission.stack import BODY, start_maxgate
from benchmarks.gateway.cases import CaseFailed
from benchmarks.gateway.gateways import MAXGATE
from benchmarks.gateway.http_client import StandIn
from benchmarks.gateway.processes import choose_cores, exit_on_sigterm
from benchmarks.gateway.prompts import Bodies, load_token_counter
from benchmarks.gateway.results import Results
from benchmarks.gateway.stack import RunningGateway, run_gateway, run_stand_in
from maxgate.stores.migrate import upgrade_database
from maxgate.stores.settings import DatabaseSettings
from tests.fakes.postgres_server import start_postgres

BASELINE: Final = "none"
VARIANTS: Final = (BASELINE, "sqlite", "postgres")
MAX_REQUEST_SHARE: Final = 0.08
MAX_CHUNK_SHARE: Final = 0.01


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
            return self.share <= MAX_REQUEST_SHARE
        return self.low <= MAX_CHUNK_SHARE


def build_configs(folder: Path, postgres: str) -> Mapping[str, Mapping[str, object]]:
    """Build the configuration of each variant."""
    usage = {"enabled": True}
    return {
        BASELINE: {},
        "sqlite": {"usage": usage, "state_dir": str(folder / "sqlite")},
        "postgres": {
            "usage": usage,
            "state_dir": str(folder / "postgres"),
            "database": {"url": postgres},
        },
    }


@contextmanager
def run_variant(
    variant: str, config: Mapping[str, object], engine: StandIn, core: int
) -> Iterator[RunningGateway]:
    """Run a gateway on a core."""
    gateway = replace(
        MAXGATE,
        name=f"maxgate, usage {variant}",
        command=partial(start_maxgate, has_metrics=False, **config),
    )
    with run_gateway(gateway, engine, BODY, core) as running:
        yield running


def measure(rounds: int, seconds: float) -> Results:
    """Measure all rounds; raises CaseFailed."""
    gateway_core, other_core = choose_cores()
    bodies = Bodies.build(load_token_counter())
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        postgres = stack.enter_context(start_postgres())
        upgrade_database(DatabaseSettings(url=postgres.url), folder)
        engine = stack.enter_context(run_stand_in(other_core))
        gateways = {
            name: stack.enter_context(run_variant(name, config, engine, gateway_core))
            for name, config in build_configs(folder, postgres.url).items()
        }
        return measure_rounds(gateways, bodies, rounds, seconds)


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
    lines = ["| ledger | of a | CPU | more | 95 % interval |", "|---|---|--:|--:|--:|"]
    for c in costs:
        more = [f"{c.share:+.1%}", f"{c.low:+.1%} to {c.high:+.1%}"]
        more = more if c.variant != BASELINE else ["-", "-"]
        lines.append(f"| {' | '.join([c.variant, c.case, f'{c.cpu_us:.1f} µs', *more])} |")
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
        costs = summarize(measure(options.rounds, options.seconds))
    except CaseFailed as reason:
        raise SystemExit(f"a gateway failed: {reason}") from None
    if options.json:
        print(json.dumps([asdict(cost) for cost in costs], indent=2))
    else:
        print(format_table(costs))
    return 0 if all(cost.is_right for cost in costs) else 1


if __name__ == "__main__":
    sys.exit(main())
