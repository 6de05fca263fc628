"""The share of the ledger in the instructions of a request."""

import argparse

import pytest

from benchmarks.usage_cost import add_callers, build_headers
from benchmarks.usage_instructions import format_table


def test_table() -> None:
    """Shares are those of the gateway without a ledger."""
    assert format_table({"none": 800_000.4, "postgres": 840_000.0}).splitlines() == [
        "| ledger | instructions of a request | more |",
        "|---|--:|--:|",
        "| none | 800,000 | - |",
        "| postgres | 840,000 | +5.0% |",
    ]


def test_headers() -> None:
    """Requests use the keys in turn, and none without keys."""
    assert [build_headers(["a", "b"], number) for number in (1, 2)] == [
        {"authorization": "Bearer b"},
        {"authorization": "Bearer a"},
    ]
    assert build_headers([]) == {}


@pytest.mark.parametrize("text", ["0", "65", "-1", "x", "", "1.5"])
def test_callers(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A number of callers out of range names the range."""
    parser = argparse.ArgumentParser()
    add_callers(parser)
    with pytest.raises(SystemExit):
        parser.parse_args([f"--callers={text}"])
    assert f"{text!r}; give a number from 1 to 64" in capsys.readouterr().err
