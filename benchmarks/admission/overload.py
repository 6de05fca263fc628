"""Measure the goodput of gateways at twice and ten times the capacity of the engine.

    python -m benchmarks.admission.overload [--only "maxgate;nginx"] [--scale 1] [--json] [--keep]

The engine works on four requests at a time, 200 ms each (20/s), queues the others first come, first
served, and forgets those whose client disconnects. Clients send at a fixed rate: half of the
capacity, twice, half, ten times, and half again; they give up after ten seconds. A response is good
if it is complete within two seconds of the time when its request was due. Goodput counts those
that are complete during the phase; a few of their requests were sent, and waited, before it.

All gateways run in turn on one core, everything else on another one. `maxgate` has its default
settings and reads the engine's metrics; `maxgate, estimate` has no metrics, and the setting
`admission.estimate`. `nginx, 8` and `smg, 8` have a limit of 8 requests that was set by hand; all
others have their defaults. Exits with 1 if maxgate misses a goal.
"""

import argparse
import asyncio
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final

import uvloop

from benchmarks.admission.clients import Clients, Response, find_quantile
from benchmarks.admission.results import write_part
from benchmarks.admission.stack import SUBJECTS, run_engine, run_subject
from benchmarks.gateway.environments import Unavailable
from benchmarks.gateway.processes import choose_cores, exit_on_sigterm, print_progress

SLOTS: Final = 4
MIN_SHARE: Final = 0.9
MAX_REFUSAL: Final = 0.02


@dataclass(frozen=True)
class Load:
    """An engine's capacity in requests per second, the SLO, and the phases with their times."""

    capacity: float = 20.0
    slo: float = 2.0
    half_seconds: float = 8.0
    overload_seconds: float = 16.0
    factors: tuple[int, ...] = (2, 10)

    def is_good(self, response: Response) -> bool:
        """Whether the response met the SLO."""
        return response.status == 200 and response.seconds <= self.slo


@dataclass(frozen=True)
class Overload:
    """The results of one subject at one multiple of the capacity; times in seconds.

    `share` is that of the capacity; `after` the share of good ones in the load after the overload.
    """

    subject: str
    factor: int
    goodput: float
    share: float
    p50: float
    p99: float
    refused: int
    refusal_p99: float
    other: dict[str, int]
    after: float

    @property
    def is_right(self) -> bool:
        """Whether the goals of maxgate are met."""
        refused_at_once = not self.refused or self.refusal_p99 < MAX_REFUSAL
        return self.share >= MIN_SHARE and refused_at_once and self.after >= MIN_SHARE


@dataclass(frozen=True)
class Phase:
    """A phase with its begin and its end in seconds, and the responses to what was sent in it."""

    began_at: float
    ended_at: float
    responses: Sequence[Response]


def measure_goodput(load: Load, phase: Phase, phases: Sequence[Phase]) -> float:
    """Return the good responses per second that were complete during a phase.

    An engine that still works on requests of an earlier phase is not idle: they count, too.
    """
    ends = [p.began_at + r.ended_at for p in phases for r in p.responses if load.is_good(r)]
    good = sum(phase.began_at < end <= phase.ended_at for end in ends)
    return good / (phase.ended_at - phase.began_at)


def summarize(
    subject: str, factor: int, load: Load, phases: Sequence[Phase], number: int
) -> Overload:
    """Return the results of the phase with overload of this number, and of the one after it."""
    during, after = phases[number].responses, phases[number + 1].responses
    good = [r.seconds for r in during if load.is_good(r)]
    refusals = [r.seconds for r in during if r.is_refusal]
    other = Counter(
        "late" if r.status == 200 else str(r.status or "no response")
        for r in during
        if not load.is_good(r) and not r.is_refusal
    )
    goodput = measure_goodput(load, phases[number], phases)
    return Overload(
        *(subject, factor, goodput, goodput / load.capacity),
        *(find_quantile(good, 0.5), find_quantile(good, 0.99)),
        *(len(refusals), find_quantile(refusals, 0.99), dict(other)),
        sum(map(load.is_good, after)) / max(len(after), 1),
    )


async def measure(subject: str, clients: Clients, load: Load) -> list[Overload]:
    """Send all phases; those before the end do not wait for late responses."""
    rates = [(load.capacity / 2, load.half_seconds)]
    for factor in load.factors:
        rates.append((factor * load.capacity, load.overload_seconds))
        rates.append((load.capacity / 2, load.half_seconds))
    loop, tasks = asyncio.get_running_loop(), []
    due = loop.time()
    times = [due]
    for rate, seconds in rates:
        tasks.append(asyncio.create_task(clients.send_steadily(rate, seconds)))
        due += seconds
        times.append(due)
        await asyncio.sleep(due - loop.time())
    found = await asyncio.gather(*tasks)
    clients.close()
    phases = list(map(Phase, times, times[1:], found))
    return [
        summarize(subject, factor, load, phases, 2 * n + 1) for n, factor in enumerate(load.factors)
    ]


def format_table(results: Sequence[Overload]) -> str:
    """Format the results as a Markdown table."""
    lines = [
        "| gateway | load | good/s | share | P50 | P99 | refused | refusal P99 | else | after |",
        "|---|--:|--:|--:|--:|--:|--:|--:|---|--:|",
    ]
    for r in results:
        other = ", ".join(f"{count} {name}" for name, count in sorted(r.other.items())) or "-"
        refusal = f"{r.refusal_p99 * 1000:.0f} ms" if r.refused else "-"
        lines.append(
            f"| {r.subject} | {r.factor}x | {r.goodput:.1f} | {r.share:.0%} | {r.p50:.2f} s "
            f"| {r.p99:.2f} s | {r.refused} | {refusal} | {other} | {r.after:.0%} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Measure all subjects in turn."""
    names = [subject.name for subject in SUBJECTS]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", help=f"names, separated by semicolons: {';'.join(names)}")
    parser.add_argument("--scale", type=float, default=1.0, help="of all times (default: 1)")
    parser.add_argument("--json", action="store_true", help="print the values as JSON")
    parser.add_argument("--keep", action="store_true", help="write the result to RESULTS.md")
    options = parser.parse_args()
    exit_on_sigterm()
    gateway_core, other_core = choose_cores()
    chosen = options.only.split(";") if options.only else names
    load = Load()
    load = replace(
        load,
        half_seconds=load.half_seconds * options.scale,
        overload_seconds=load.overload_seconds * options.scale,
    )
    results: list[Overload] = []
    notes = []
    for subject in SUBJECTS:
        if subject.name not in chosen:
            continue
        try:
            notes.append(f"{subject.name} {subject.version()}")
            with (
                run_engine(other_core, SLOTS, 0.2 / 8) as engine,
                run_subject(subject, engine, gateway_core) as target,
            ):
                results += uvloop.run(measure(subject.name, Clients(target), load))
        except Unavailable as reason:
            notes[-1] += f" is unavailable: {reason}"
        print_progress(notes[-1])
    text = f"{format_table(results)}\n\n{'; '.join(notes)}."
    print(json.dumps([asdict(r) for r in results], indent=2) if options.json else text)
    if options.keep:
        write_part("Overload", "python -m benchmarks.admission.overload", text)
    return 0 if all(r.is_right for r in results if r.subject == "maxgate") else 1


if __name__ == "__main__":
    sys.exit(main())
