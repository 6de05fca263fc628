"""The share of limits in the CPU time of requests and chunks."""

import pytest

from benchmarks.added_cost import BASELINE, Cost
from benchmarks.gateway.results import Results
from benchmarks.limits_cost import COMPARISON, LIMITS, build_configs
from maxgate.limits.settings import LimitSettings
from maxgate.settings import Settings


def test_table() -> None:
    """A share is the median of each round's ratio."""
    results = Results()
    for number, ratio in enumerate([1.01, 1.02, 1.2]):
        for variant in COMPARISON.max_request_shares:
            cpu_us = (100.0 + number) * (1.0 if variant == BASELINE else ratio)
            for case in ("request", "chunk"):
                results.add(variant, case, {"cpu_us": cpu_us})
    assert COMPARISON.format_table(COMPARISON.summarize(results)).splitlines()[2::2] == [
        "| none | request | 101.0 µs | - | - |",
        "| memory | request | 103.0 µs | +2.0% | +1.0% to +20.0% |",
        "| redis | request | 103.0 µs | +2.0% | +1.0% to +20.0% |",
    ]


@pytest.mark.parametrize(
    ("case", "share", "low", "is_right"),
    [
        ("request", 0.05, 0.02, True),
        ("request", 0.051, 0.02, False),
        ("chunk", 0.02, -0.01, True),
        ("chunk", 0.02, 0.011, False),
    ],
)
def test_bounds(case: str, share: float, low: float, *, is_right: bool) -> None:
    """A request may cost 5 % more, and a chunk no more than noise."""
    assert COMPARISON.is_right(Cost("memory", case, 100.0, share, low, 0.06)) == is_right


def test_settings() -> None:
    """The settings of all variants are valid, and limit what they say."""
    for config in build_configs("redis://localhost").values():
        Settings(**config)
    assert LimitSettings.model_validate(LIMITS).is_enabled
