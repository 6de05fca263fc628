"""Measure the CPU time of the ledger of usage per chat request and per chunk of a stream.

    python -m benchmarks.usage_cost [--body short] [--callers 1] [--rounds 6] [--seconds 3]
        [--json]

Gateways run without a ledger, with one in SQLite, with one in PostgreSQL, and with the last one and
the limits and budget of `limits_cost`; all in one process on one core, see
`benchmarks.gateway.one_process`, and everything else on another one. The CPU time of the server of
PostgreSQL is not included, and that of moving lines to the database is. Each round starts a new
process and measures chat requests at saturation over 256 connections, in six windows in which
each gateway has load in turn, see `benchmarks.gateway.windows`; and then 256 streams with a chunk
every 10 ms, of one gateway after the other in an order that rotates. Lines are moved at the end of
each window of 3 seconds, as often as with the default interval. With fewer connections, the ledger
would not be measured at saturation: responses that wait for the disk in groups every 10 ms leave a
gateway without other requests idle, and an idle loop spends more on each request.

Requests are short, streamed in 32 chunks, or have a history of 1,000 tokens. With more than one
caller, they use as many API keys in turn, each of its own project. All gateways authenticate them,
the one without a ledger too.

Shares are the median of each window's ratio to the gateway without a ledger, with an interval that
contains the true median in 95 of 100 runs. Exits with 1 if the ledger costs more than 8 % of a
chat request, which is the bound of limits, budgets and ledger together, or more of a chunk than
noise: the interval of the share is above 1 %. Needs wrk.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks.added_cost import BASELINE, Comparison, build_parser, run_comparison
from benchmarks.admission.stack import BODY
from benchmarks.auth_cost import PEPPER, write_keys
from benchmarks.gateway.cases import measure_paced_streams
from benchmarks.gateway.one_process import run_in_one_process
from benchmarks.gateway.processes import choose_cores, print_progress
from benchmarks.gateway.prompts import CONVERSATIONS, Bodies, load_token_counter
from benchmarks.gateway.results import Results
from benchmarks.gateway.stack import RunningGateway, run_stand_in, wait_until_quiet
from benchmarks.gateway.windows import measure_chat_in_windows
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
WINDOWS: Final = 6
"""Windows of each gateway in a round."""
_ROUNDS: Final = 6
_SECONDS: Final = round(UsageSettings().move_interval)
_BODIES: Final = ("short", "streamed", "history")
_NEVER: Final = 60.0
"""The longest interval of moves: the benchmark asks for them."""


def build_configs(folder: Path, postgres: str) -> Mapping[str, Mapping[str, object]]:
    """Build the configuration of each variant."""
    sqlite = {"usage": {"enabled": True, "move_interval": _NEVER}}
    ledger = {**sqlite, "database": {"url": postgres}}
    return {
        BASELINE: {"state_dir": str(folder / "none")},
        "sqlite": {**sqlite, "state_dir": str(folder / "sqlite")},
        "postgres": {**ledger, "state_dir": str(folder / "postgres")},
        "postgres and limits": {**ledger, "state_dir": str(folder / "limits"), "limits": LIMITS},
    }


def measure(body: str, callers: int, rounds: int, seconds: float) -> Results:
    """Measure all rounds, with requests of one of `_BODIES`; raises CaseFailed."""
    gateway_core, other_core = choose_cores()
    bodies = Bodies.build(load_token_counter())
    template = getattr(bodies, body)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        engine = stack.enter_context(run_stand_in(other_core))  # and pins PostgreSQL
        postgres = stack.enter_context(start_postgres())
        upgrade_database(DatabaseSettings(url=postgres.url), folder)
        configs, results = build_configs(folder, postgres.url), Results()
        configs, keys = require_keys(configs, folder, callers)
        headers = build_headers(keys)
        for number in range(rounds):
            print_progress(f"round {number + 1} of {rounds}")
            names = list(configs)
            at = number % len(names)
            order = {name: configs[name] for name in names[at:] + names[:at]}
            with run_in_one_process(order, engine, BODY, gateway_core, folder, headers) as gateways:
                measure_round(gateways, bodies, template, seconds, keys, results)
        return results


def require_keys(
    configs: Mapping[str, Mapping[str, object]], folder: Path, callers: int
) -> tuple[Mapping[str, Mapping[str, object]], Sequence[str]]:
    """Let gateways authenticate callers, if there are several; returns the keys of all of them."""
    if callers == 1:
        return configs, ()
    file = folder / "keys.yaml"
    keys = write_keys(file, callers)
    auth = {"mode": "keys", "pepper": [PEPPER], "keys_file": str(file)}
    return {name: {**config, "auth": auth} for name, config in configs.items()}, keys


def build_headers(keys: Sequence[str], number: int = 0) -> Mapping[str, str]:
    """Return the headers of a request with the next of these keys, if there are any."""
    return {"authorization": f"Bearer {keys[number % len(keys)]}"} if keys else {}


def measure_round(
    gateways: Mapping[str, RunningGateway],
    bodies: Bodies,
    template: bytes,
    seconds: float,
    keys: Sequence[str],
    results: Results,
) -> None:
    """Measure both cases of gateways in one process, and add them to the results."""
    for samples in measure_chat_in_windows(gateways, template, WINDOWS, seconds, CONNECTIONS, keys):
        for name, sample in samples.items():
            results.add(name, "request", sample)
    for name, gateway in gateways.items():
        results.add(name, "chunk", measure_paced_streams(gateway, bodies, seconds))
        wait_until_quiet([gateway])


def add_callers(parser: argparse.ArgumentParser) -> None:
    """Add the option `--callers`."""
    parser.add_argument(
        "--callers",
        type=_parse_callers,
        default=1,
        help=f"number of callers, at most {CONVERSATIONS} (default: %(default)s)",
    )


def _parse_callers(text: str) -> int:
    if text.isdecimal() and 1 <= int(text) <= CONVERSATIONS:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r}; give a number from 1 to {CONVERSATIONS}")


def main() -> int:
    """Measure and print a table."""
    parser = build_parser(__doc__.partition("\n")[0], rounds=_ROUNDS, seconds=_SECONDS)
    parser.add_argument(
        "--body", choices=_BODIES, default="short", help="kind of request (default: %(default)s)"
    )
    add_callers(parser)
    options = parser.parse_args()
    return run_comparison(
        COMPARISON,
        options,
        lambda: measure(options.body, options.callers, options.rounds, options.seconds),
    )


if __name__ == "__main__":
    sys.exit(main())
