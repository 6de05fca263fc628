"""maxgate and its rivals in front of the same stand-in for MAX, on one core, in one run.

    python -m benchmarks.gateway [--only maxgate,nginx] [--cases chat,paced] [--repeat 5] [--quick]

Rounds are interleaved: in each of them every gateway is measured in every case, one after the
other, so that what else the machine does meets all. See README.md for how to read the table.
"""

import argparse
from contextlib import ExitStack

from benchmarks.gateway.cases import CASES
from benchmarks.gateway.environments import Absent
from benchmarks.gateway.http_client import StandIn
from benchmarks.gateway.processes import cores, end_in_order, say
from benchmarks.gateway.prompts import filled, model_tokens
from benchmarks.gateway.report import Run, keep
from benchmarks.gateway.rivals import gateways
from benchmarks.gateway.stack import running, stand_in, wait_for_quiet
from benchmarks.gateway.subject import Bodies, Failed, Subject


def _arguments() -> argparse.Namespace:
    names = [gateway.name for gateway in gateways()]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gateway", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--only", help=f"some of {','.join(names)}")
    parser.add_argument("--cases", help=f"some of {','.join(CASES)}")
    parser.add_argument("--repeat", type=int, default=5, help="rounds; medians are taken of them")
    parser.add_argument("--seconds", type=float, default=3, help="for each gateway in each case")
    parser.add_argument("--quick", action="store_true", help="one round of a second each")
    parser.add_argument("--keep", action="store_true", help="write it down in RESULTS.md")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.repeat, arguments.seconds = 1, 1
    arguments.only = _chosen(parser, arguments.only, names)
    arguments.cases = _chosen(parser, arguments.cases, list(CASES))
    return arguments


def _chosen(parser: argparse.ArgumentParser, given: str | None, known: list[str]) -> list[str]:
    names = known if given is None else given.split(",")
    if unknown := sorted(set(names) - set(known)):
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
    return [name for name in known if name in names]


def _begin(
    names: list[str], engine: StandIn, bodies: Bodies, core: int, run: Run, stack: ExitStack
) -> dict[str, Subject]:
    subjects = {}
    for gateway in gateways():
        if gateway.name not in names:
            continue
        try:
            run.versions[gateway.name] = gateway.version()
            say(f"starting {gateway.name} {run.versions[gateway.name]} ...")
            first = filled(bodies.short, 0)
            subjects[gateway.name] = stack.enter_context(running(gateway, engine, first, core))
        except Absent as reason:
            say(f"{gateway.name} is absent: {reason}")
            run.absent[gateway.name] = str(reason)
    return subjects


def _measure(
    subjects: dict[str, Subject], bodies: Bodies, run: Run, arguments: argparse.Namespace
) -> None:
    for round_number in range(1, arguments.repeat + 1):
        for case in arguments.cases:
            for name, subject in subjects.items():
                say(f"round {round_number} of {arguments.repeat}: {case}, {name}")
                wait_for_quiet(list(subjects.values()))
                try:
                    sample = CASES[case](subject, bodies, arguments.seconds)
                    run.results.add(name, case, sample)
                except (Failed, AssertionError, OSError) as reason:
                    run.results.fail(name, case, str(reason))
        for subject in subjects.values():
            subject.process.empty_log()


def main() -> None:
    """Install, start, measure, print, keep."""
    arguments = _arguments()
    end_in_order()
    gateway_core, beside = cores()
    bodies = Bodies.make(model_tokens())
    run = Run(repeat=arguments.repeat, seconds=arguments.seconds)
    with stand_in(beside) as engine, ExitStack() as stack:
        subjects = _begin(arguments.only, engine, bodies, gateway_core, run, stack)
        _measure(subjects, bodies, run, arguments)
    print(run.text())
    if arguments.keep:
        keep("Side by side", run.text())


if __name__ == "__main__":
    main()
