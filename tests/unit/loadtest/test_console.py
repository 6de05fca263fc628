"""The printed summary."""

from maxgate.loadtest.console import format_counts
from tests.unit.report.examples import level


def test_counts() -> None:
    """Throughput and tokens are printed with their rates."""
    shown = level(8)
    throughput = shown.throughput.model_copy(update={"input_tokens": 320.0, "requests": 26.7})
    lines = format_counts(shown.model_copy(update={"throughput": throughput})).plain.split("\n")
    assert lines[1] == ("26.7 requests/s, 7.92 in flight on average (max 8)")
    assert lines[2] == ("tokens: 4800 in (320.0/s), 8000 out (533.3/s), counted by usage")
