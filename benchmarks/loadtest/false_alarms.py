"""How often a comparison of two runs of the same thing sees a change.

    python -m benchmarks.loadtest.false_alarms [--runs 300]

A comparison is P50, P95 and P99 of 1,200 latencies on each side; it counts as a false alarm when
any of the three is flagged. Latencies are log-normal, independent or correlated from one to the
next as those of a busy server are.
"""

import argparse

import numpy as np

from benchmarks.loadtest.results import write_part
from tests.unit.tools.loadtest.test_changes import compare
from tests.unit.tools.results.test_statistics import autoregressive


def alarms(rho: float, runs: int) -> int:
    """Comparisons with at least one number flagged."""
    rng = np.random.default_rng(99)
    found = 0
    for _ in range(runs):
        before, after = (np.exp(0.4 * autoregressive(rho, 1200, rng)) for _ in range(2))
        found += any(change.verdict != "same" for change in compare(before, after, rng))
    return found


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=300)
    runs = parser.parse_args().runs
    lines = ["| correlation of neighbours | false alarms | share |", "|---|---|---|"]
    for rho in (0.0, 0.3, 0.6):
        found = alarms(rho, runs)
        lines.append(f"| {rho} | {found} of {runs} | {found / runs:.1%} |")
        print(lines[-1], flush=True)
    write_part("False alarms", "python -m benchmarks.loadtest.false_alarms", "\n".join(lines))


if __name__ == "__main__":
    main()
