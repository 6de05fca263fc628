"""What the summary says in words."""

from maxgate.loadtest.console import facts
from tests.unit.report.examples import level


def test_tokens_are_told_in_and_out_and_per_second() -> None:
    shown = level(8)
    throughput = shown.throughput.model_copy(update={"input_tokens": 320.0, "requests": 26.7})
    said = facts(shown.model_copy(update={"throughput": throughput})).plain.split("\n")
    assert said[1] == ("26.7 requests/s, in flight 7.92 on average, 8 at most")
    assert said[2] == ("tokens: 4800 in (320.0/s), 8000 out (533.3/s), counted by usage")
