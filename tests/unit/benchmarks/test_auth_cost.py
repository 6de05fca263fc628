"""The share of authentication in the CPU time of requests and chunks."""

from pathlib import Path

import pytest

from benchmarks.added_cost import BASELINE, Cost, find_interval
from benchmarks.auth_cost import COMPARISON, KEYS, write_keys
from benchmarks.gateway.results import Results
from maxgate.auth.key_file import read_key_file


def build_results(*ratios: float) -> Results:
    """Return rounds in which gateways with keys use these multiples of the CPU time."""
    results = Results()
    for number, ratio in enumerate(ratios):
        for variant in COMPARISON.max_request_shares:
            cpu_us = (100.0 + number) * (1.0 if variant == BASELINE else ratio)
            for case in ("request", "chunk"):
                results.add(variant, case, {"cpu_us": cpu_us})
    return results


def test_interval() -> None:
    """The interval leaves out as many of the lowest as of the highest values."""
    assert find_interval([float(n) for n in range(15)]) == (3.0, 11.0)
    assert find_interval([1.0, 2.0]) == (1.0, 2.0)


def test_table() -> None:
    """A share is the median of each round's ratio, whatever the rounds themselves cost."""
    lines = COMPARISON.format_table(
        COMPARISON.summarize(build_results(1.01, 1.02, 1.2))
    ).splitlines()
    assert lines[2::2] == [
        "| none | request | 101.0 µs | - | - |",
        "| keys | request | 103.0 µs | +2.0% | +1.0% to +20.0% |",
        "| database | request | 103.0 µs | +2.0% | +1.0% to +20.0% |",
        "| jwt | request | 103.0 µs | +2.0% | +1.0% to +20.0% |",
    ]


@pytest.mark.parametrize(
    ("variant", "case", "share", "low", "is_right"),
    [
        ("keys", "request", 0.04, 0.02, True),
        ("keys", "request", 0.041, 0.02, False),
        ("jwt", "request", 0.06, 0.02, True),
        ("jwt", "request", 0.061, 0.02, False),
        ("database", "chunk", 0.02, -0.01, True),
        ("jwt", "chunk", 0.02, 0.011, False),
    ],
)
def test_bounds(variant: str, case: str, share: float, low: float, *, is_right: bool) -> None:
    """A request may cost 4 % more with keys and 6 % with tokens; a chunk no more than noise."""
    assert COMPARISON.is_right(Cost(variant, case, 100.0, share, low, 0.05)) == is_right


def test_keys(tmp_path: Path) -> None:
    """The file of the measurement is valid."""
    keys = write_keys(tmp_path / "keys.yaml", KEYS)
    assert len(read_key_file(tmp_path / "keys.yaml")) == len(set(keys)) == KEYS
