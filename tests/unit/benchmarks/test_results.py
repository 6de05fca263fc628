"""Medians, ratios, verdicts and tables of benchmark results."""

import pytest

from benchmarks.gateway.results import Goal, Results, percentile
from benchmarks.gateway.table import format_goals, format_markdown, format_number, format_results

RATE = "chat", "rate"


def results() -> Results:
    """Three rounds of two gateways."""
    rounds = Results()
    for ours, theirs in ((10.0, 100.0), (30.0, 150.0), (20.0, 400.0)):
        rounds.add("maxgate", "chat", {"rate": ours, "busy": 0.99})
        rounds.add("vllm-router", "chat", {"rate": theirs, "busy": 0.5})
    return rounds


@pytest.mark.parametrize(("percent", "value"), [(1, 1), (50, 50), (99, 99), (100, 100)])
def test_percentile(percent: int, value: int) -> None:
    """A percentile is one of the values."""
    assert percentile(range(100, 0, -1), percent) == value


def test_median() -> None:
    """A median skips failed rounds."""
    rounds = results()
    rounds.fail("maxgate", "chat", "3 refused")
    assert rounds.values("maxgate", *RATE) == [10.0, 30.0, 20.0, None]
    assert rounds.median("maxgate", *RATE) == 20.0
    assert rounds.median("litellm", *RATE) is None


def test_ratio() -> None:
    """A ratio is the median of the ratios in each round."""
    rounds = results()
    assert rounds.ratio(("maxgate", *RATE), ("vllm-router", *RATE)) == 0.1
    assert rounds.ratio(("maxgate", *RATE), ("litellm", *RATE)) is None


@pytest.mark.parametrize(
    ("needed", "aimed", "ratio", "verdict"),
    [
        (0.35, 0.6, 0.7, "reached"),
        (0.35, 0.6, 0.4, "acceptable"),
        (0.35, 0.6, 0.3, "missed"),
        (2.0, 1.2, 1.2, "reached"),
        (2.0, 1.2, 1.9, "acceptable"),
        (2.0, 1.2, 2.1, "missed"),
        (2.0, 1.2, None, "not measured"),
    ],
)
def test_verdict(needed: float, aimed: float, ratio: float | None, verdict: str) -> None:
    """Whether a goal is a minimum or a maximum decides the verdict."""
    number = ("maxgate", *RATE)
    assert Goal("", number, number, needed, aimed).judge(ratio) == verdict


def test_format_results() -> None:
    """The table has a row for each number, with the reason of a failure."""
    rounds = results()
    rounds.fail("maxgate", "idle", "9 without response")
    table = format_results(rounds, ["vllm-router", "maxgate"])
    head, _, *rows = [line.replace(" ", "") for line in table.splitlines()]
    assert head == "|case|vllm-router|maxgate|maxgate/vllm-router|"
    assert rows == [
        "|chat,32-tokenprompt,requests/s|~150|20.0|0.10|",
        "|2,000mostlyidleconnections,µsCPU/request||9withoutresponse||",
        "|-latency,P99µs||9withoutresponse||",
        "|-memory,KiB/connection||9withoutresponse||",
    ]


def test_format_goals() -> None:
    """A goal without a measurement has no ratio."""
    lines = format_goals(results()).splitlines()
    assert [line.split("|")[4:6] for line in lines[2:4]] == [
        ["     0.10 ", "       missed "],
        ["          ", " not measured "],
    ]


def test_format_markdown() -> None:
    """Columns are as wide as their widest cell."""
    assert format_markdown([["a", "b"], ["long", "1,000"]]) == (
        "| a    |     b |\n| ---- | ----: |\n| long | 1,000 |"
    )


@pytest.mark.parametrize(
    ("value", "text"), [(46431.8, "46,432"), (99.94, "99.9"), (1.234, "1.23"), (-250.0, "-250")]
)
def test_format_number(value: float, text: str) -> None:
    """Numbers have three significant digits, and thousands separators."""
    assert format_number(value) == text
