"""Measure maxgate and other gateways on one core, in front of the same stand-in for MAX.

    python -m benchmarks.gateway [--only maxgate,nginx] [--cases chat,paced] [--repeat 5] [--quick]

Rounds are interleaved: each round measures every gateway in every case, so that disturbances by
the machine affect all gateways. README.md explains the table.
"""

import argparse
from contextlib import ExitStack

from benchmarks.gateway.cases import CASES, CaseFailed
from benchmarks.gateway.environments import Unavailable
from benchmarks.gateway.gateways import GATEWAYS
from benchmarks.gateway.http_client import StandIn
from benchmarks.gateway.processes import choose_cores, exit_on_sigterm, print_progress
from benchmarks.gateway.prompts import Bodies, fill_template, load_token_counter
from benchmarks.gateway.report import Run, write_section
from benchmarks.gateway.stack import RunningGateway, run_gateway, run_stand_in, wait_until_quiet


def _parse_arguments() -> argparse.Namespace:
    names = [gateway.name for gateway in GATEWAYS]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gateway", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--only", help=f"comma-separated gateways: {','.join(names)}")
    parser.add_argument("--cases", help=f"comma-separated cases: {','.join(CASES)}")
    parser.add_argument("--repeat", type=int, default=5, help="number of rounds (default: 5)")
    parser.add_argument(
        "--seconds", type=float, default=3, help="seconds per gateway and case (default: 3)"
    )
    parser.add_argument("--quick", action="store_true", help="one round of one second per case")
    parser.add_argument("--keep", action="store_true", help="write the result to RESULTS.md")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.repeat, arguments.seconds = 1, 1
    arguments.only = _parse_names(parser, arguments.only, names)
    arguments.cases = _parse_names(parser, arguments.cases, list(CASES))
    return arguments


def _parse_names(parser: argparse.ArgumentParser, given: str | None, known: list[str]) -> list[str]:
    names = known if given is None else given.split(",")
    if unknown := sorted(set(names) - set(known)):
        parser.error(f"unknown: {', '.join(unknown)}; choose from {', '.join(known)}")
    return [name for name in known if name in names]


def _start_gateways(
    names: list[str], engine: StandIn, bodies: Bodies, core: int, run: Run, stack: ExitStack
) -> dict[str, RunningGateway]:
    running = {}
    for gateway in GATEWAYS:
        if gateway.name not in names:
            continue
        try:
            run.versions[gateway.name] = gateway.version()
            print_progress(f"starting {gateway.name} {run.versions[gateway.name]} ...")
            first = fill_template(bodies.short, 0)
            running[gateway.name] = stack.enter_context(run_gateway(gateway, engine, first, core))
        except Unavailable as reason:
            print_progress(f"{gateway.name} is unavailable: {reason}")
            run.unavailable[gateway.name] = str(reason)
    return running


def _measure(
    gateways: dict[str, RunningGateway], bodies: Bodies, run: Run, arguments: argparse.Namespace
) -> None:
    for round_number in range(1, arguments.repeat + 1):
        for case in arguments.cases:
            for name, gateway in gateways.items():
                print_progress(f"round {round_number} of {arguments.repeat}: {case}, {name}")
                wait_until_quiet(list(gateways.values()))
                try:
                    sample = CASES[case](gateway, bodies, arguments.seconds)
                    run.results.add(name, case, sample)
                except (CaseFailed, AssertionError, OSError) as reason:
                    run.results.fail(name, case, str(reason))
        for gateway in gateways.values():
            gateway.process.truncate_log()


def main() -> None:
    """Install and start the gateways, measure, print and keep the result."""
    arguments = _parse_arguments()
    exit_on_sigterm()
    gateway_core, other_core = choose_cores()
    bodies = Bodies.build(load_token_counter())
    run = Run(repeat=arguments.repeat, seconds=arguments.seconds)
    with run_stand_in(other_core) as engine, ExitStack() as stack:
        gateways = _start_gateways(arguments.only, engine, bodies, gateway_core, run, stack)
        _measure(gateways, bodies, run, arguments)
    print(run.format())
    if arguments.keep:
        write_section("Comparison of gateways", run.format())


if __name__ == "__main__":
    main()
