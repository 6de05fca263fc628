"""How often a comparison of two equal runs reports a change.

    python -m benchmarks.loadtest.false_alarms [--runs 300]

A comparison covers P50, P95 and P99 of 1,200 latencies in each run and is a false alarm if any of
the three is not `same`. Latencies are log-normal, and either independent or correlated with their
neighbours, as on a busy server.

A paired run covers the mean, P50, P95 and P99 of the differences of 600 pairs between two paths to
one server. The second request of a pair hits the prefix cache, which halves its latency; noise is
correlated as above.
"""

import argparse

import numpy as np

from benchmarks.loadtest.results import write_part
from maxgate.loadtest.analysis.comparison import paired_change
from maxgate.loadtest.arrivals import choose_side_order
from maxgate.results.changes import bonferroni_confidence
from tests.unit.loadtest.analysis.test_comparison import latency_changes
from tests.unit.results.test_statistics import autoregressive


def alarms(rho: float, runs: int) -> int:
    """The number of comparisons with at least one change."""
    rng = np.random.default_rng(99)
    found = 0
    for _ in range(runs):
        before, after = (np.exp(0.4 * autoregressive(rho, 1200, rng)) for _ in range(2))
        found += any(change.verdict != "same" for change in latency_changes(before, after, rng))
    return found


def paired_alarms(rho: float, runs: int) -> int:
    """The number of paired runs with at least one change."""
    rng = np.random.default_rng(98)
    first = np.array([choose_side_order(index, 2, seed=0)[0] == 0 for index in range(600)])
    found = 0
    for _ in range(runs):
        noise = np.exp(0.4 * autoregressive(rho, 1200, rng)).reshape(600, 2)
        before = noise[:, 0] * np.where(first, 0.5, 1.0)
        after = noise[:, 1] * np.where(first, 1.0, 0.5)
        changes = (
            paired_change(
                before,
                after,
                after_first=first,
                metric="latency",
                statistic=statistic,
                level="x",
                confidence=bonferroni_confidence(4),
                rng=rng,
            )
            for statistic in ("mean", "p50", "p95", "p99")
        )
        found += any(change.verdict != "same" for change in changes)
    return found


def main() -> None:
    """Run the comparisons, print them and write them to RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=300)
    runs = parser.parse_args().runs
    lines = ["| | correlation of neighbours | false alarms | share |", "|---|---|---|---|"]
    for name, count in (("two runs", alarms), ("pairs", paired_alarms)):
        for rho in (0.0, 0.3, 0.6):
            found = count(rho, runs)
            lines.append(f"| {name} | {rho} | {found} of {runs} | {found / runs:.1%} |")
            print(lines[-1], flush=True)
    write_part("False alarms", "python -m benchmarks.loadtest.false_alarms", "\n".join(lines))


if __name__ == "__main__":
    main()
