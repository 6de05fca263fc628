"""The share of admission in the CPU time of requests and chunks."""

import pytest

from benchmarks.added_cost import find_interval
from benchmarks.admission.cost import VARIANTS, Cost, format_table, summarize
from benchmarks.gateway.results import Results


def build_results(*ratios: float) -> Results:
    """Return rounds in which gateways with admission use these multiples of the CPU time."""
    results = Results()
    for number, ratio in enumerate(ratios):
        for variant in VARIANTS:
            cpu_us = (100.0 + number) * (ratio if variant.baseline else 1.0)
            for case in ("request", "chunk"):
                results.add(variant.name, case, {"cpu_us": cpu_us})
    return results


def test_interval() -> None:
    """The interval leaves out as many of the lowest as of the highest values."""
    assert find_interval([float(n) for n in range(15)]) == (3.0, 11.0)
    assert find_interval([1.0, 2.0]) == (1.0, 2.0)


def test_shares() -> None:
    """A share is the median of each round's ratio, whatever the rounds themselves cost."""
    costs = {(c.variant, c.case): c for c in summarize(build_results(1.01, 1.02, 1.2))}
    cost = costs["on, 2 workers", "request"]
    assert cost.share == pytest.approx(0.02)
    assert (cost.low, cost.high) == pytest.approx((0.01, 0.2))
    assert costs["off", "request"].share == 0.0


@pytest.mark.parametrize(
    ("case", "share", "low", "is_right"),
    [
        ("request", 0.03, 0.02, True),
        ("request", 0.031, 0.02, False),
        ("chunk", 0.02, -0.01, True),
        ("chunk", 0.02, 0.011, False),
    ],
)
def test_bounds(case: str, share: float, low: float, *, is_right: bool) -> None:
    """A request may cost 3 % more; a chunk no more than noise."""
    assert Cost("on", case, 100.0, share, low, 0.05).is_right == is_right


def test_table() -> None:
    """Gateways without admission have no share."""
    lines = format_table(summarize(build_results(1.02, 1.02))).splitlines()
    assert lines[2:5:2] == [
        "| off | request | 100.5 µs | - | - |",
        "| on | request | 102.5 µs | +2.0% | +2.0% to +2.0% |",
    ]
