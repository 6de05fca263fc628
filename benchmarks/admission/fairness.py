"""Measure how two tenants share an engine of which one wants ten times as much as the other.

    python -m benchmarks.admission.fairness [--only "one worker"] [--seconds 60] [--keep]

The mock engine works on eight requests at a time, 25 ms per token, and queues the others. The
tenant `much` has 100 parallel clients, `little` has ten; both want more than half of the slots. A
refused client retries after the time in Retry-After. Tokens of a prompt count 1, generated ones 2.

Each setup (one worker, two workers, two gateways that share Redis) has these loads: equal requests;
short requests of `much` beside long ones of `little`, and the reverse; and `much` alone. `--engine
max` runs the real MAX with the small model instead, with one worker and short requests.

Exits with 1 unless both get 45 to 55 % of the tokens, and `much` alone gets at least 95 % of what
the engine can do (with MAX: of what it does without the gateway).
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

import uvloop

from benchmarks.admission.clients import Response, find_quantile
from benchmarks.admission.results import write_part
from benchmarks.admission.stack import run_engine
from benchmarks.admission.tenants import (
    SETUPS,
    Tenant,
    count_weighted_tokens,
    run_gateways,
    send_all,
)
from benchmarks.gateway.http_client import Target
from benchmarks.gateway.processes import choose_cores, exit_on_sigterm, print_progress
from benchmarks.stack import run_stack

SLOTS: Final = 8
TOKEN_SECONDS: Final = 0.025
MUCH: Final = 100
LITTLE: Final = 10
WARM_UP_SECONDS: Final = 15.0
MIN_SHARE: Final = 0.45
MIN_USE: Final = 0.95
SHORT: Final[dict[str, Any]] = {"max_tokens": 8}
LONG: Final[dict[str, Any]] = {
    "max_tokens": 32,
    "messages": [{"role": "user", "content": "Summarize: " + "the river runs to the sea. " * 40}],
}
LOADS: Final = {
    "equal": [Tenant("much", MUCH, SHORT), Tenant("little", LITTLE, SHORT)],
    "little is long": [Tenant("much", MUCH, SHORT), Tenant("little", LITTLE, LONG)],
    "much is long": [Tenant("much", MUCH, LONG), Tenant("little", LITTLE, SHORT)],
    "much alone": [Tenant("much", MUCH, SHORT)],
}


@dataclass(frozen=True)
class Sharing:
    """The result of one load: share of the tokens of `little`, and use of the engine.

    `use` is the number of responses by that of which the engine is capable, None if that is not
    known. Refusals count apart; `failed` are other responses that
    are not complete. Times are in
    seconds.
    """

    setup: str
    load: str
    responses: int
    share: float
    use: float | None
    much_refused: int
    little_refused: int
    failed: int
    much_p99: float
    little_p99: float

    @property
    def is_right(self) -> bool:
        """Whether the goals are met."""
        if "alone" in self.load:
            return not self.failed and (self.use is None or self.use >= MIN_USE)
        return not self.failed and MIN_SHARE <= self.share <= 1 - MIN_SHARE


def summarize(
    setup: str, load: str, found: dict[str, list[Response]], peak: float | None
) -> Sharing:
    """Summarize the responses of all tenants; `peak` is the most that the engine can do."""
    everything = [response for own in found.values() for response in own]
    served = {name: [r for r in own if r.status == 200] for name, own in found.items()}
    tokens = {name: count_weighted_tokens(own) for name, own in served.items()}
    count = sum(map(len, served.values()))
    times = {name: [r.seconds for r in own] for name, own in served.items()}
    return Sharing(
        *(setup, load, count, tokens.get("little", 0) / max(sum(tokens.values()), 1)),
        None if peak is None else count / peak,
        *(sum(r.is_refusal for r in found.get(name, [])) for name in ("much", "little")),
        sum(r.status != 200 and not r.is_refusal for r in everything),
        *(find_quantile(times.get(name, []), 0.99) for name in ("much", "little")),
    )


async def measure(
    setup: str, targets: Sequence[Target], seconds: float, warm_up: float = WARM_UP_SECONDS
) -> list[Sharing]:
    """Send all loads to the mock engine, one after the other."""
    results = []
    for load, tenants in LOADS.items():
        found = await send_all(targets, tenants, seconds, warm_up)
        is_equal = all(tenant.fields is SHORT for tenant in tenants)
        peak = seconds * SLOTS / (SHORT["max_tokens"] * TOKEN_SECONDS) if is_equal else None
        results.append(summarize(setup, load, found, peak))
        print_progress(f"{results[-1]}")
    return results


async def measure_max(url: str, engine_url: str, seconds: float) -> list[Sharing]:
    """Send equal requests to MAX through the gateway, and `much` alone with and without it."""
    gateway, engine = (Target(int(u.rpartition(":")[2]), {}) for u in (url, engine_url))
    alone = Tenant("much", SLOTS, {**SHORT, "temperature": 0})
    direct = (await send_all([engine], [alone], seconds, WARM_UP_SECONDS))["much"]
    peak = sum(response.status == 200 for response in direct)
    results = []
    for load in ("equal", "much alone"):
        found = await send_all([gateway], LOADS[load], seconds, WARM_UP_SECONDS)
        results.append(summarize("MAX, one worker", load, found, peak))
        print_progress(f"{results[-1]}")
    return results


@contextmanager
def run_setup(setup: str, slots: int | None = None) -> Iterator[list[Target]]:
    """Run a setup in front of the mock engine; without `slots`, gateways read its metrics."""
    gateway_core, other_core = choose_cores()
    with (
        run_engine(other_core, SLOTS, TOKEN_SECONDS) as engine,
        run_gateways(setup, engine, gateway_core, admission={"slots": slots}) as targets,
    ):
        yield targets


def format_table(results: Sequence[Sharing]) -> str:
    """Format the results as a Markdown table."""
    lines = [
        "| setup | load | responses | share of little | use | refused | failed "
        "| P99 much | P99 little |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for r in results:
        alone = "alone" in r.load
        use = "-" if r.use is None else f"{r.use:.1%}"
        lines.append(
            f"| {r.setup} | {r.load} | {r.responses} | {'-' if alone else f'{r.share:.1%}'} "
            f"| {use} | {r.much_refused}, {r.little_refused} | {r.failed} | {r.much_p99:.2f} s "
            f"| {'-' if alone else f'{r.little_p99:.2f} s'} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Measure all setups in turn."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--engine", choices=("mock", "max"), default="mock")
    parser.add_argument("--only", choices=SETUPS, help="one of the setups")
    parser.add_argument("--seconds", type=float, default=60.0, help="of a load (default: 60)")
    parser.add_argument("--json", action="store_true", help="print the values as JSON")
    parser.add_argument("--keep", action="store_true", help="write the result to RESULTS.md")
    options = parser.parse_args()
    exit_on_sigterm()
    results: list[Sharing] = []
    title, command = "Fairness", "python -m benchmarks.admission.fairness"
    if options.engine == "max":
        title, command = "Fairness with MAX", f"{command} --engine max"
        with run_stack() as stack:
            work = measure_max(stack.gateway_url, stack.engine_url, options.seconds)
            results = uvloop.run(work)
    else:
        for setup in [options.only] if options.only else SETUPS:
            with run_setup(setup) as targets:
                results += uvloop.run(measure(setup, targets, options.seconds))
    text = format_table(results)
    print(json.dumps([asdict(r) for r in results], indent=2) if options.json else text)
    if options.keep:
        write_part(title, command, text)
    return 0 if all(r.is_right for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
