"""From samples to medians, ratios and verdicts."""

import pytest

from benchmarks.gateway.results import Goal, Results, percentile
from benchmarks.gateway.table import format_goals, format_markdown, format_number, format_results

RATE = "chat", "rate"


def results() -> Results:
    """Three rounds of two gateways."""
    found = Results()
    for ours, theirs in ((10.0, 100.0), (30.0, 150.0), (20.0, 400.0)):
        found.add("maxgate", "chat", {"rate": ours, "busy": 0.99})
        found.add("vllm-router", "chat", {"rate": theirs, "busy": 0.5})
    return found


@pytest.mark.parametrize(("percent", "value"), [(1, 1), (50, 50), (99, 99), (100, 100)])
def test_a_percentile_is_one_of_the_values(percent: int, value: int) -> None:
    assert percentile(range(100, 0, -1), percent) == value


def test_a_median_leaves_out_the_rounds_that_failed() -> None:
    found = results()
    found.fail("maxgate", "chat", "3 refused")
    assert found.values("maxgate", *RATE) == [10.0, 30.0, 20.0, None]
    assert found.median("maxgate", *RATE) == 20.0
    assert found.median("litellm", *RATE) is None


def test_a_ratio_is_the_median_of_the_ratios_of_each_round() -> None:
    found = results()
    assert found.ratio(("maxgate", *RATE), ("vllm-router", *RATE)) == 0.1
    assert found.ratio(("maxgate", *RATE), ("litellm", *RATE)) is None


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
def test_an_aim_knows_which_side_is_better(
    needed: float, aimed: float, ratio: float | None, verdict: str
) -> None:
    number = ("maxgate", *RATE)
    assert Goal("", number, number, needed, aimed).judge(ratio) == verdict


def test_the_table_has_a_row_per_measured_number_and_says_what_failed() -> None:
    found = results()
    found.fail("maxgate", "idle", "9 without response")
    table = format_results(found, ["vllm-router", "maxgate"])
    head, _, *rows = [line.replace(" ", "") for line in table.splitlines()]
    assert head == "|case|vllm-router|maxgate|maxgate/vllm-router|"
    assert rows == [
        "|chat,32-tokenprompt,requests/s|~150|20.0|0.10|",
        "|2,000mostlyidleconnections,µsCPU/request||9withoutresponse||",
        "|-latency,P99µs||9withoutresponse||",
        "|-memory,KiB/connection||9withoutresponse||",
    ]


def test_aims_that_were_not_measured_say_so() -> None:
    lines = format_goals(results()).splitlines()
    assert [line.split("|")[4:6] for line in lines[2:4]] == [
        ["     0.10 ", "       missed "],
        ["          ", " not measured "],
    ]


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert format_markdown([["a", "b"], ["long", "1,000"]]) == (
        "| a    |     b |\n| ---- | ----: |\n| long | 1,000 |"
    )


@pytest.mark.parametrize(
    ("value", "text"), [(46431.8, "46,432"), (99.94, "99.9"), (1.234, "1.23"), (-250.0, "-250")]
)
def test_numbers_show_three_digits_that_matter(value: float, text: str) -> None:
    assert format_number(value) == text
