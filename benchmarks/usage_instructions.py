"""Count the instructions of limits and ledger per chat request.

    python -m benchmarks.usage_instructions [--callers 1] [--requests 2048]

On a shared machine, the CPU time of a request differs by several percent from run to run, and the
number of its instructions by tenths of a percent, if no other program takes the core meanwhile.
Instructions are no time: code that waits for memory takes longer. Variants, settings and bound are
those of `benchmarks.usage_cost`.

Each gateway runs alone under callgrind, about 40 times slower than without it. A clock that is slow
by the same factor gives the work of each second, such as reports of limits, its real weight. Short
chat requests arrive over 256 connections; the ledger moves their lines to the database at the end.
A gateway at saturation moves twice as many at a time, which costs less per line. Exits with 1 if a
variant executes more than 8 % more instructions than the gateway without a ledger.
Needs valgrind and faketime.
"""

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks.added_cost import BASELINE
from benchmarks.admission.stack import BODY
from benchmarks.gateway.cases import CaseFailed
from benchmarks.gateway.http_client import StandIn, Target
from benchmarks.gateway.one_process import FIRST_MOVE, run_in_one_process
from benchmarks.gateway.processes import choose_cores, exit_on_sigterm, print_progress
from benchmarks.gateway.prompts import Bodies, fill_template, load_token_counter
from benchmarks.gateway.stack import RunningGateway, run_stand_in, wait_until_quiet
from benchmarks.usage_cost import (
    COMPARISON,
    CONNECTIONS,
    add_callers,
    build_configs,
    build_headers,
    require_keys,
)
from maxgate.stores.migrate import upgrade_database
from maxgate.stores.settings import DatabaseSettings
from tests.fakes.postgres_server import start_postgres

_WARM_UP: Final = 256
"""Requests before the count: each caller has some."""
_CLOCK_RATE: Final = 0.025
"""Speed of the gateway's clock; a gateway under callgrind is as much slower."""
_TIMEOUT: Final = 300.0
_TOTAL: Final = re.compile(r"^(?:totals|summary): (\d+)", re.MULTILINE)


def measure(callers: int, requests: int) -> dict[str, float]:
    """Return the instructions of a request by variant; raises CaseFailed."""
    gateway_core, other_core = choose_cores()
    body = Bodies.build(load_token_counter()).short
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        engine = stack.enter_context(run_stand_in(other_core))  # and pins PostgreSQL
        postgres = stack.enter_context(start_postgres())
        upgrade_database(DatabaseSettings(url=postgres.url), folder)
        configs, keys = require_keys(build_configs(folder, postgres.url), folder, callers)
        found = {}
        for name, config in configs.items():
            print_progress(name)
            total = count_instructions(
                {name: config}, engine, gateway_core, folder, body, keys, requests
            )
            found[name] = total / requests
        return found


def count_instructions(
    configs: Mapping[str, Mapping[str, object]],
    engine: StandIn,
    core: int,
    folder: Path,
    body: bytes,
    keys: Sequence[str],
    requests: int,
) -> int:
    """Return the instructions of so many requests to a gateway; raises CaseFailed."""
    [name] = configs
    output = folder / f"{name}.callgrind"
    prefix = ["valgrind", "--tool=callgrind", "--instr-atstart=no"]
    prefix.append(f"--callgrind-out-file={output}")
    gateways = run_in_one_process(
        configs,
        engine,
        BODY,
        core,
        folder,
        build_headers(keys),
        prefix=prefix,
        environment=_slow_clock(),
    )
    with gateways as running:
        gateway = running[name]
        engine.set_script()
        load(gateway, body, keys, _WARM_UP)
        _control(gateway, "-i", "on")
        load(gateway, body, keys, requests)
        _control(gateway, "-d")
        _control(gateway, "-i", "off")
    counted = folder / f"{output.name}.1"  # the first dump
    match = _TOTAL.search(counted.read_text())
    if match is None:
        raise CaseFailed(f"{counted} has no total")
    return int(match[1])


def load(gateway: RunningGateway, body: bytes, keys: Sequence[str], count: int) -> None:
    """Send so many requests, and let the ledger move their lines; raises CaseFailed."""
    send_requests(gateway.target, body, keys, count)
    gateway.process.send_signal(FIRST_MOVE)
    wait_until_quiet([gateway])


def send_requests(target: Target, body: bytes, keys: Sequence[str], count: int) -> None:
    """Send so many requests over all connections; raises CaseFailed if one is not answered."""

    def send(first: int) -> None:
        with closing(HTTPConnection("127.0.0.1", target.port, timeout=_TIMEOUT)) as connection:
            for number in range(first, count, CONNECTIONS):
                headers = {"content-type": "application/json", **build_headers(keys, number)}
                text = fill_template(body, number)
                connection.request("POST", "/v1/chat/completions", text, headers)
                response = connection.getresponse()
                answer = response.read()
                if response.status != 200:
                    raise CaseFailed(f"{response.status}: {answer[:300]!r}")

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        try:
            list(pool.map(send, range(CONNECTIONS)))
        except OSError as error:
            raise CaseFailed(str(error)) from error


def format_table(found: Mapping[str, float]) -> str:
    """Format the instructions as a Markdown table."""
    lines = ["| ledger | instructions of a request | more |", "|---|--:|--:|"]
    for name, count in found.items():
        more = "-" if name == BASELINE else f"{count / found[BASELINE] - 1:+.1%}"
        lines.append(f"| {name} | {count:,.0f} | {more} |")
    return "\n".join(lines)


def _slow_clock() -> Mapping[str, str]:
    libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not libraries:
        raise SystemExit("libfaketime is not installed: apt-get install faketime")
    return {
        "LD_PRELOAD": str(libraries[0]),
        "FAKETIME": f"+0 x{_CLOCK_RATE}",
        "FAKETIME_DONT_RESET": "1",
        "DONT_FAKE_MONOTONIC": "0",
        "PYTHONHASHSEED": "0",
    }


def _control(gateway: RunningGateway, *arguments: str) -> None:
    command = ["callgrind_control", *arguments, str(gateway.process.pid)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main() -> int:
    """Count and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_callers(parser)
    parser.add_argument(
        "--requests", type=int, default=2048, help="number of requests (default: %(default)s)"
    )
    options = parser.parse_args()
    if options.requests < 1:
        parser.error(f"--requests is {options.requests}; give at least 1")
    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind is not installed: apt-get install valgrind")
    exit_on_sigterm()
    try:
        found = measure(options.callers, options.requests)
    except CaseFailed as reason:
        raise SystemExit(f"a gateway failed: {reason}") from None
    print(format_table(found))
    shares = COMPARISON.max_request_shares
    is_right = all(found[name] <= found[BASELINE] * (1 + share) for name, share in shares.items())
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
