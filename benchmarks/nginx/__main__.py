"""Measure nginx with TLS in front of four replicas of the gateway, and attack it.

    python -m benchmarks.nginx [--quick] [--case NAME] [--keep]

Latency added over direct requests, streams through TLS and HTTP/2, slow clients, many connections,
reloads under load, attacks, and a replica that is killed. A stand-in takes the place of MAX.
"""

import argparse
import os
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.gateway.environments import ROOT
from benchmarks.gateway.processes import exit_on_sigterm
from benchmarks.gateway.report import describe_machine, find_revision, replace_section
from benchmarks.gateway.table import format_markdown
from benchmarks.nginx import cases
from benchmarks.nginx.stack import run_replicas

FILE = Path(__file__).parents[1] / "RESULTS.md"
REPLICAS = 4


def main() -> None:
    """Measure, print and keep the result."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.nginx", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help="run with a tenth of the load")
    parser.add_argument(
        "--case", action="append", default=[], help="run this case only; repeatable"
    )
    parser.add_argument("--keep", action="store_true", help="write the result to RESULTS.md")
    options = parser.parse_args()
    exit_on_sigterm()
    scale = 10 if options.quick else 1
    measured = {
        "latency": lambda: cases.measure_latency(replicas, 1000 // scale),
        "streams": lambda: cases.measure_all_streams(replicas, 100 // scale),
        "slow clients": lambda: cases.measure_slow_clients(replicas, 400 // scale, 100 // scale),
        "rapid reset": lambda: cases.measure_rapid_reset(replicas, 10, 1000 // scale),
        "connections": lambda: cases.measure_connections(replicas, 2000 // scale),
        "reloads": lambda: cases.measure_reloads(replicas, 2000 // scale),
        "attacks": lambda: cases.measure_attacks(replicas),
        "killed replica": lambda: cases.measure_killed_replica(replicas, 2000 // scale),
    }
    if unknown := set(options.case) - set(measured):
        parser.error(f"unknown cases: {', '.join(unknown)}; there are {', '.join(measured)}")
    rows: cases.Rows = []
    with run_replicas(REPLICAS) as replicas:
        for name in options.case or measured:
            for row in measured[name]():
                print(": ".join(row), flush=True)
                rows.append(row)
    load = os.getloadavg()[0]
    when = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    where = f"maxgate at {find_revision(ROOT)}, {describe_machine()}, load {load:.1f}"
    text = f"{when}, {where}.\n\n{format_markdown([['', 'measured'], *map(list, rows)])}"
    print(f"\n{text}")
    if options.keep:
        part = f"    python -m benchmarks.nginx\n\n{text}"
        FILE.write_text(replace_section(FILE.read_text(), "nginx", part))


if __name__ == "__main__":
    main()
