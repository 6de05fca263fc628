"""Measure how truthful Retry-After is: the time that was told beside the one that was needed.

    python -m benchmarks.admission.retry_after [--requests 60] [--rounds 5] [--json] [--keep]

The engine works on four requests at a time, 200 ms each. After some overload, many requests arrive
at once, again and again; those beyond the queue are refused. In half of the bursts, refused clients
retry at the time that the refusal names, and again at that of each further one. In the other half,
they poll every 20 ms: their times show what is possible. The earliest one is compared with the
earliest time that was told, and so on.

The ratio is the time after which a retry was served, divided by the time that the first refusal
named. Exits with 1 unless nine of ten ratios of the former, and the median ratio of the latter, are
within 30 % of 1.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Final

import uvloop

from benchmarks.admission.clients import Clients, Response, find_quantile
from benchmarks.admission.results import write_part
from benchmarks.admission.stack import SUBJECTS, run_engine, run_subject
from benchmarks.gateway.http_client import Target
from benchmarks.gateway.processes import choose_cores, exit_on_sigterm

CAPACITY: Final = 20.0
WARM_UP_SECONDS: Final = 4.0
TOLERANCE: Final = 0.3
MIN_TRUE: Final = 0.9
POLL_SECONDS: Final = 0.02


@dataclass(frozen=True)
class Retry:
    """A refused client: the time that it was told, and the time after which it was served.

    `attempts` counts its retries.
    """

    told: float
    needed: float
    attempts: int

    @property
    def ratio(self) -> float:
        """The time that was needed as a multiple of the time that was told."""
        return self.needed / self.told


async def retry_as_told(clients: Clients, refusal: Response) -> Retry:
    """Retry at the time of each refusal until served."""
    loop = asyncio.get_running_loop()
    began, response, attempts = loop.time(), refusal, 0
    while response.retry_after is not None:
        await asyncio.sleep(response.retry_after)
        sent_at, attempts = loop.time(), attempts + 1
        response = await clients.send()
    return Retry(refusal.retry_after or 0.0, sent_at - began, attempts)


async def poll(clients: Clients, refusal: Response) -> Retry:
    """Retry again and again until served."""
    loop, response, attempts = asyncio.get_running_loop(), refusal, 0
    began = loop.time()
    while response.retry_after is not None:
        await asyncio.sleep(POLL_SECONDS)
        sent_at, attempts = loop.time(), attempts + 1
        response = await clients.send()
    return Retry(refusal.retry_after or 0.0, sent_at - began, attempts)


async def measure(target: Target, requests: int, rounds: int) -> tuple[list[Retry], list[Retry]]:
    """Return the retries of clients that retry as told, and of those that poll."""
    clients = Clients(target, patience=30.0)
    await clients.send_steadily(CAPACITY * 2, WARM_UP_SECONDS)  # shows what the engine can do
    told: list[Retry] = []
    polled: list[Retry] = []
    for _ in range(rounds):
        await clients.send_steadily(CAPACITY / 2, WARM_UP_SECONDS / 2)
        told += await measure_burst(clients, requests, retry_as_told)
        await clients.send_steadily(CAPACITY / 2, WARM_UP_SECONDS / 2)
        found = await measure_burst(clients, requests, poll)
        # Which of the polling clients is served first is chance.
        times = zip(sorted(r.told for r in found), sorted(r.needed for r in found), strict=True)
        polled += [Retry(time, needed, 0) for time, needed in times]
    clients.close()
    return told, polled


async def measure_burst(
    clients: Clients, requests: int, retry: Callable[[Clients, Response], Awaitable[Retry]]
) -> list[Retry]:
    """Send requests at once; each refused client retries."""

    async def send() -> Retry | None:
        response = await clients.send()
        return None if response.retry_after is None else await retry(clients, response)

    found = await asyncio.gather(*(send() for _ in range(requests)))
    return [retry for retry in found if retry is not None]


def count_true(retries: Sequence[Retry]) -> float:
    """Return the share of the retries for which the time was true."""
    return sum(abs(r.ratio - 1) <= TOLERANCE for r in retries) / max(len(retries), 1)


def is_right(told: Sequence[Retry], polled: Sequence[Retry]) -> bool:
    """Whether the goals are met."""
    median = find_quantile([r.ratio for r in polled], 0.5)
    return count_true(told) >= MIN_TRUE and abs(median - 1) <= TOLERANCE


def format_table(told: Sequence[Retry], polled: Sequence[Retry]) -> str:
    """Format the results as a Markdown table."""
    lines = [
        "| clients | number | told | ratio P10 | P50 | P90 | within 30 % | at the first retry |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, own in (("retry as told", told), ("poll", polled)):
        times, ratios = [r.told for r in own], [r.ratio for r in own]
        low, median, high = (find_quantile(ratios, share) for share in (0.1, 0.5, 0.9))
        first = "-" if own is polled else f"{sum(r.attempts == 1 for r in own) / len(own):.0%}"
        lines.append(
            f"| {name} | {len(own)} | {min(times):.2f} to {max(times):.2f} s | {low:.2f} "
            f"| {median:.2f} | {high:.2f} | {count_true(own):.0%} | {first} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=60, help="in a burst (default: 60)")
    parser.add_argument("--rounds", type=int, default=5, help="number of bursts (default: 5)")
    parser.add_argument("--json", action="store_true", help="print the values as JSON")
    parser.add_argument("--keep", action="store_true", help="write the result to RESULTS.md")
    options = parser.parse_args()
    exit_on_sigterm()
    gateway_core, other_core = choose_cores()
    [maxgate] = [subject for subject in SUBJECTS if subject.name == "maxgate"]
    with ExitStack() as stack:
        engine = stack.enter_context(run_engine(other_core, 4, 0.2 / 8))
        target = stack.enter_context(run_subject(maxgate, engine, gateway_core))
        told, polled = uvloop.run(measure(target, options.requests, options.rounds))
    text = format_table(told, polled)
    values = {"told": [asdict(r) for r in told], "polled": [asdict(r) for r in polled]}
    print(json.dumps(values, indent=2) if options.json else text)
    if options.keep:
        write_part("Retry-After", "python -m benchmarks.admission.retry_after", text)
    return 0 if is_right(told, polled) else 1


if __name__ == "__main__":
    sys.exit(main())
