"""Measure the CPU time of the ledger of usage per chat request and per chunk of a stream.

    python -m benchmarks.usage_cost [--rounds 15] [--seconds 4] [--json]

Gateways run without a ledger, with one in SQLite, with one in PostgreSQL, and with the last one and
the limits and budget of `limits_cost`; all at the same time on one core, and everything else on
another one. The CPU time of the server of PostgreSQL is not included, and that of moving lines to
the database is. Each round starts all of them anew and measures chat requests at saturation over
256 connections, in turns, see `benchmarks.gateway.turns`; and then, one after the other in an order
that rotates, 256 streams with a chunk every 10 ms. A gateway runs for a quarter of the time, so its
lines are moved in four times the usual interval: as often as usual while it runs. With fewer
connections, the ledger would not be measured at saturation: responses that wait for the disk in
groups every 10 ms leave a gateway without other requests idle, and an idle loop spends more on each
request.

Shares are the median of each round's ratio to the gateway without a ledger, with an interval that
contains the true median in 95 of 100 runs. Exits with 1 if the ledger costs more than 8 % of a
chat request, which is the bound of limits, budgets and ledger together, or more of a chunk than
noise: the interval of the share is above 1 %. Needs wrk.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks.added_cost import BASELINE, Comparison, measure_rounds, run_comparison
from benchmarks.admission.stack import BODY, start_maxgate
from benchmarks.gateway.gateways import MAXGATE
from benchmarks.gateway.http_client import StandIn
from benchmarks.gateway.processes import choose_cores
from benchmarks.gateway.prompts import Bodies, load_token_counter
from benchmarks.gateway.results import Results
from benchmarks.gateway.stack import RunningGateway, run_gateway, run_stand_in
from benchmarks.limits_cost import LIMITS
from maxgate.stores.migrate import upgrade_database
from maxgate.stores.settings import DatabaseSettings
from maxgate.usage.settings import UsageSettings
from tests.fakes.postgres_server import start_postgres

COMPARISON: Final = Comparison(
    "ledger",
    {BASELINE: 0.0, "sqlite": 0.08, "postgres": 0.08, "postgres and limits": 0.08},
)
CONNECTIONS: Final = 256
_SECONDS: Final = 4  # five turns


def build_configs(folder: Path, postgres: str) -> Mapping[str, Mapping[str, object]]:
    """Build the configuration of each variant."""
    interval = UsageSettings().move_interval * len(COMPARISON.max_request_shares)
    sqlite = {"usage": {"enabled": True, "move_interval": interval}}
    ledger = {**sqlite, "database": {"url": postgres}}
    return {
        BASELINE: {},
        "sqlite": {**sqlite, "state_dir": str(folder / "sqlite")},
        "postgres": {**ledger, "state_dir": str(folder / "postgres")},
        "postgres and limits": {**ledger, "state_dir": str(folder / "limits"), "limits": LIMITS},
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
        engine = stack.enter_context(run_stand_in(other_core))  # and pins PostgreSQL
        postgres = stack.enter_context(start_postgres())
        upgrade_database(DatabaseSettings(url=postgres.url), folder)
        starters = {
            name: partial(run_variant, name, config, engine, gateway_core)
            for name, config in build_configs(folder, postgres.url).items()
        }
        return measure_rounds(starters, bodies, rounds, seconds, CONNECTIONS)


def main() -> int:
    """Measure and print a table."""
    return run_comparison(COMPARISON, __doc__.partition("\n")[0], measure, default_seconds=_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
