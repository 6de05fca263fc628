"""The CPU time that variants of a gateway add to one without their capability."""

import argparse
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from typing import Final, TypeAlias

from benchmarks.gateway.cases import CaseFailed, measure_paced_streams, saturate
from benchmarks.gateway.processes import exit_on_sigterm, print_progress
from benchmarks.gateway.prompts import Bodies
from benchmarks.gateway.results import Results
from benchmarks.gateway.stack import RunningGateway, wait_until_quiet
from benchmarks.gateway.turns import measure_chat_in_turns

CASES: Final = ("request", "chunk")
MAX_CHUNK_SHARE: Final = 0.01
_CONNECTIONS: Final = 32
BASELINE: Final = "none"
"""The variant without the capability."""

Starter: TypeAlias = Callable[[], AbstractContextManager[RunningGateway]]
"""Runs a gateway."""


@dataclass(frozen=True)
class Cost:
    """The CPU time of a request or chunk in µs, and the share that a variant adds."""

    variant: str
    case: str
    cpu_us: float
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Variants of a capability, and the share of a chat request that each may add."""

    capability: str
    max_request_shares: Mapping[str, float]

    def is_right(self, cost: Cost) -> bool:
        """Whether the bound is kept; a chunk may cost no more than noise."""
        if cost.case == "request":
            return cost.share <= self.max_request_shares[cost.variant]
        return cost.low <= MAX_CHUNK_SHARE

    def summarize(self, results: Results) -> list[Cost]:
        """Return the cost of each variant: the median of each round's ratio to the baseline."""
        costs = []
        for variant in self.max_request_shares:
            for case in CASES:
                own = [value or 0.0 for value in results.values(variant, case, "cpu_us")]
                base = [value or 0.0 for value in results.values(BASELINE, case, "cpu_us")]
                shares = [a / b - 1 for a, b in zip(own, base, strict=True)]
                share, cpu_us = statistics.median(shares), statistics.median(own)
                costs.append(Cost(variant, case, cpu_us, share, *find_interval(shares)))
        return costs

    def format_table(self, costs: Sequence[Cost]) -> str:
        """Format the costs as a Markdown table."""
        head = f"| {self.capability} | of a | CPU | more | 95 % interval |"
        lines = [head, "|---|---|--:|--:|--:|"]
        for c in costs:
            more = [f"{c.share:+.1%}", f"{c.low:+.1%} to {c.high:+.1%}"]
            more = more if c.variant != BASELINE else ["-", "-"]
            lines.append(f"| {' | '.join([c.variant, c.case, f'{c.cpu_us:.1f} µs', *more])} |")
        return "\n".join(lines)


def build_parser(
    description: str, *, rounds: int = 15, seconds: int = 1
) -> argparse.ArgumentParser:
    """Build the parser of a comparison, with these defaults."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--rounds", type=int, default=rounds, help="number of rounds (default: %(default)s)"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=seconds,
        help="seconds per measurement (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print the values as JSON")
    return parser


def run_comparison(
    comparison: Comparison,
    options: argparse.Namespace,
    measure: Callable[[], Results],
    count_calls: Callable[[], int] | None = None,
) -> int:
    """Measure and print a table or JSON; returns the exit status.

    `count_calls` returns how many scripts Redis has run, which is printed too.
    """
    exit_on_sigterm()
    try:
        costs = comparison.summarize(measure())
    except CaseFailed as reason:
        raise SystemExit(f"a gateway failed: {reason}") from None
    values: object = [asdict(cost) for cost in costs]
    text = comparison.format_table(costs)
    if count_calls is not None:
        calls = count_calls()
        values = {"costs": values, "calls": calls}
        text += f"\n\nRedis has run {calls} scripts."
    print(json.dumps(values, indent=2) if options.json else text)
    return 0 if all(map(comparison.is_right, costs)) else 1


def measure_rounds(
    starters: Mapping[str, Starter],
    bodies: Bodies,
    rounds: int,
    seconds: float,
    connections: int = _CONNECTIONS,
) -> Results:
    """Measure both cases of all gateways in each round.

    Each round starts all of them anew. Two processes of the same program differ by several percent
    for as long as they live, and more rounds of the same processes would only measure this
    difference more exactly.
    """
    results, names = Results(), list(starters)
    warm_up = saturate(lambda bodies: bodies.short, connections=connections)
    for number in range(rounds):
        print_progress(f"round {number + 1} of {rounds}")
        order = names[number % len(names) :] + names[: number % len(names)]
        with ExitStack() as stack:
            gateways = {name: stack.enter_context(starters[name]()) for name in order}
            for gateway in gateways.values():  # caches, leases, memory
                warm_up(gateway, bodies, seconds)
            wait_until_quiet(list(gateways.values()))
            samples = measure_chat_in_turns(gateways, bodies, seconds, connections)
            for name, sample in samples.items():
                results.add(name, "request", sample)
            wait_until_quiet(list(gateways.values()))
            for name, gateway in gateways.items():
                results.add(name, "chunk", measure_paced_streams(gateway, bodies, seconds))
                wait_until_quiet([gateway])
    return results


def find_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % confidence interval of the median, by order statistics."""
    ordered = sorted(values)
    rank = max(0, math.floor((len(ordered) - 1.96 * math.sqrt(len(ordered))) / 2))
    return ordered[rank], ordered[-1 - rank]
