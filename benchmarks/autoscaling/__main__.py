"""Show how the manifests' autoscaling reacts to load.

    python -m benchmarks.autoscaling [--only NAME] [--keep]

A simulated cluster exports the gauges of the gateway to a real Prometheus. The queries of the
rendered ScaledObject run there at KEDA's polling interval, and KEDA's and the HPA's algorithms
decide: tolerance, stabilisation windows, policies, cooldown and fallback. An engine has 32 slots, a
request takes 6 to 18 s, and an engine that starts is ready after 120 s, which the autoscaler does
not see. Exits with 1 if a scenario flaps or its waits are out of bounds. Needs prometheus.
"""

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.autoscaling.prometheus import INSTALL, PROGRAM, Prometheus, start_prometheus
from benchmarks.autoscaling.scenarios import SCENARIOS, Outcome, Scenario, run
from benchmarks.gateway.report import replace_section
from tests.fakes.manifests import find

RESULTS = Path(__file__).parents[1] / "RESULTS.md"
HEADER = (
    "| scenario | overlay | engines, most | scale-outs | scale-ins | flaps | wait, median | P95 | "
    "maximum | requests | refused | engine hours | |\n|" + "---|" * 13
)
# Longer than Prometheus looks back, so that a scenario sees nothing of the one before.
_PAUSE = 900


def run_all(scenarios: Sequence[Scenario], prometheus: Prometheus) -> list[Outcome]:
    """Simulate the scenarios one after the other, ending now."""
    length = sum(60 * scenario.minutes + _PAUSE for scenario in scenarios)
    start, outcomes = (time.time() - length) // 60 * 60, []
    for scenario in scenarios:
        spec = find(scenario.overlay, "ScaledObject", "max")["spec"]
        outcomes.append(run(scenario, spec, prometheus, start))
        start += 60 * scenario.minutes + _PAUSE
    return outcomes


def format_row(outcome: Outcome) -> str:
    """Return the row of a scenario."""
    outs, ins, flaps = outcome.count_changes()
    cluster = outcome.cluster
    cells = (
        outcome.scenario.name,
        outcome.scenario.overlay,
        str(outcome.peak),
        *map(str, (outs, ins, flaps)),
        *(f"{outcome.find_wait(share):.1f} s" for share in (0.5, 0.95, 1)),
        f"{len(cluster.waits):,}",
        f"{cluster.refused:,}",
        f"{cluster.engine_seconds / 3600:.1f}",
        "right" if outcome.is_right else "WRONG",
    )
    return f"| {' | '.join(cells)} |"


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Show how the manifests' autoscaling reacts.")
    parser.add_argument("--only", help="scenario to run")
    parser.add_argument("--keep", action="store_true", help="write the result to RESULTS.md")
    parser.add_argument("--changes", action="store_true", help="print each change of engines")
    options = parser.parse_args()
    if shutil.which(PROGRAM) is None:
        sys.exit(f"prometheus is not installed; run: {INSTALL}")
    scenarios = [one for one in SCENARIOS if options.only in {None, one.name}]
    with start_prometheus() as prometheus:
        outcomes = run_all(scenarios, prometheus)
        rows = "\n".join(map(format_row, outcomes))
        text = f"{HEADER}\n{rows}\n\n{prometheus.queries:,} queries by a real Prometheus."
    print(text)
    if options.changes:
        for outcome in outcomes:
            steps = ", ".join(f"{at / 60:.2f} min: {number}" for at, number in outcome.changes)
            print(f"\n{outcome.scenario.name}: {steps}")
    if options.keep:
        RESULTS.write_text(replace_section(RESULTS.read_text(), "Autoscaling", text))
    return 0 if all(outcome.is_right for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
