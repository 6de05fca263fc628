"""Measure the time to the first token of priority requests, alone and under overload.

    python -m benchmarks.admission.priority [--only "one worker"] [--seconds 60] [--keep]

The mock engine works on eight requests at a time, 25 ms per token, and queues the others. One
client sends streams with `service_tier: priority`, with pauses of 0.3 s on average: first alone,
then beside 100 clients of another tenant. Exits with 1 unless the P99 under overload is at most
1.5 times the P99 alone.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import uvloop

from benchmarks.admission.clients import find_quantile
from benchmarks.admission.fairness import WARM_UP_SECONDS, run_setup
from benchmarks.admission.results import write_part
from benchmarks.admission.tenants import SETUPS, Tenant, send_all
from benchmarks.gateway.http_client import Target
from benchmarks.gateway.processes import exit_on_sigterm, print_progress

MAX_RATIO: Final = 1.5
URGENT: Final = Tenant("urgent", 1, {"service_tier": "priority", "stream": True}, pause=0.3)
OTHERS: Final = Tenant("others", 100)


@dataclass(frozen=True)
class Delay:
    """The times to the first token of priority requests, in seconds, and the other responses."""

    setup: str
    requests: int
    alone_p99: float
    p50: float
    p99: float
    others: int

    @property
    def ratio(self) -> float:
        """The P99 under overload as a multiple of that alone."""
        return self.p99 / self.alone_p99


async def measure(
    setup: str, targets: Sequence[Target], seconds: float, warm_up: float = WARM_UP_SECONDS
) -> Delay:
    """Send priority requests alone, and under overload."""
    alone = (await send_all(targets, [URGENT], seconds, warm_up))["urgent"]
    found = await send_all(targets, [OTHERS, URGENT], seconds, warm_up)
    times = [response.first_token for response in found["urgent"]]
    others = sum(response.status == 200 for response in found["others"])
    return Delay(
        *(setup, len(times), find_quantile([r.first_token for r in alone], 0.99)),
        *(find_quantile(times, 0.5), find_quantile(times, 0.99), others),
    )


def format_table(results: Sequence[Delay]) -> str:
    """Format the results as a Markdown table."""
    lines = [
        "| setup | priority requests | P99 alone | P50 | P99 | ratio | other responses |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {r.setup} | {r.requests} | {r.alone_p99 * 1000:.0f} ms | {r.p50 * 1000:.0f} ms "
        f"| {r.p99 * 1000:.0f} ms | {r.ratio:.2f} | {r.others} |"
        for r in results
    ]
    return "\n".join(lines)


def main() -> int:
    """Measure all setups in turn."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=SETUPS, help="one of the setups")
    parser.add_argument("--seconds", type=float, default=60.0, help="of a load (default: 60)")
    parser.add_argument("--keep", action="store_true", help="write the result to RESULTS.md")
    options = parser.parse_args()
    exit_on_sigterm()
    results = []
    for setup in [options.only] if options.only else SETUPS:
        with run_setup(setup) as targets:
            results.append(uvloop.run(measure(setup, targets, options.seconds)))
        print_progress(f"{results[-1]}")
    text = format_table(results)
    print(text)
    if options.keep:
        write_part("Priority", "python -m benchmarks.admission.priority", text)
    return 0 if all(r.ratio <= MAX_RATIO for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
