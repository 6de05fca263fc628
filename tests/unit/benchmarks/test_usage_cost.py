"""The share of the ledger in the CPU time of requests and chunks."""

from pathlib import Path

import pytest

from benchmarks.added_cost import BASELINE
from benchmarks.gateway.results import Results
from benchmarks.usage_cost import COMPARISON, build_configs
from maxgate.settings import Settings


def build_results(ratio: float) -> Results:
    """Return rounds in which gateways with a ledger use this multiple of the CPU time."""
    results = Results()
    for number in range(15):
        for variant in COMPARISON.max_request_shares:
            cpu_us = (100.0 + number) * (1.0 if variant == BASELINE else ratio)
            for case in ("request", "chunk"):
                results.add(variant, case, {"cpu_us": cpu_us})
    return results


@pytest.mark.parametrize(
    ("ratio", "request_is_right", "chunk_is_right"),
    [(1.005, True, True), (1.05, True, False), (1.09, False, False)],
)
def test_bounds(ratio: float, *, request_is_right: bool, chunk_is_right: bool) -> None:
    """The bounds are 8 % of a request and noise of a chunk."""
    costs = COMPARISON.summarize(build_results(ratio))
    right = {(cost.variant, cost.case): COMPARISON.is_right(cost) for cost in costs}
    assert right["sqlite", "request"] is request_is_right
    assert right["postgres", "chunk"] is chunk_is_right


def test_table() -> None:
    """The table has a row per variant and case."""
    assert len(
        COMPARISON.format_table(COMPARISON.summarize(build_results(1.05))).splitlines()
    ) == 2 + 2 * len(COMPARISON.max_request_shares)


def test_configs(tmp_path: Path) -> None:
    """The gateways can be started with their configurations."""
    configs = build_configs(tmp_path, "postgresql://localhost/x")
    enabled = {name: Settings(**config).usage.enabled for name, config in configs.items()}
    assert enabled == {
        "none": False,
        "sqlite": True,
        "postgres": True,
        "postgres and limits": True,
    }
