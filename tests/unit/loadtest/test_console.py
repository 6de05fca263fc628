"""The printed summary."""

import io

import pytest
from rich.console import Console

from maxgate.loadtest.console import build_metrics_table, format_counts, print_report
from maxgate.loadtest.level_table import Cell, build_cells, format_failures
from maxgate.results.distribution import ClientError, Interval
from maxgate.results.report import Report
from tests.unit.report.examples import level, report


def show(shown: Report, width: int, encoding: str = "utf-8", *, details: bool = False) -> str:
    """The summary on a terminal of this width."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    print_report(shown, Console(file=file, width=width), details=details)
    file.flush()
    file.seek(0)
    return file.read()


def test_counts() -> None:
    """Throughput and tokens are printed with their rates."""
    shown = level(8)
    throughput = shown.throughput.model_copy(update={"input_tokens": 320.0, "requests": 26.7})
    lines = format_counts(shown.model_copy(update={"throughput": throughput})).plain.split("\n")
    assert lines[1] == ("26.7 requests/s, 7.92 in flight on average (max 8)")
    assert lines[2] == ("tokens: 4800 in (320.0/s), 8000 out (533.3/s), counted by usage")


def test_cells() -> None:
    """Every value stands beside half the width of its interval."""
    shown = level(8, failed=100)
    interval = Interval(low=0.040, high=0.055)
    first = shown.metrics["ttft"].model_copy(
        update={"percentiles": {"50": 0.050, "95": None}, "intervals": {"50": interval}}
    )
    cells = [*build_cells(shown.model_copy(update={"metrics": {"ttft": first}})).values()]
    assert cells[:2] == [Cell("80%", count="500"), Cell("26.7", "0.80")]
    assert cells[3:] == [Cell("50.0", "10.0"), Cell("-"), Cell("-"), Cell("-"), Cell("-")]


def test_missing_percentile() -> None:
    """A percentile that is missing says why: few values, or the error of the load generator."""
    error = ClientError(bias=0, mean=0.001, p99=0.07, max=0.08, count=400)
    shown = (
        level(8)
        .metrics["ttft"]
        .model_copy(
            update={"percentiles": {"50": 0.05, "95": None, "99": None}, "client_error": error}
        )
    )
    for count, value in ((400, "<70.0"), (19, "-")):
        few = shown.model_copy(update={"count": count})
        cells = build_cells(level(8).model_copy(update={"metrics": {"ttft": few}}), wide=True)
        assert (cells["TTFT\nP95 ms"].value, cells["TTFT\nP99 ms"].value) == (value, value)


@pytest.mark.parametrize(
    ("width", "percentiles"),
    [
        (80, "P50 ms P95 ms P50 ms P50 ms P95 ms"),
        (160, "P50 ms P95 ms P99 ms P50 ms P95 ms P50 ms P95 ms P99 ms"),
    ],
)
def test_table_of_levels(width: int, percentiles: str) -> None:
    """One table has the names of the field, and as many percentiles as the width allows."""
    text = show(report(level(1), level(8), level(64)), width)
    assert max(map(len, text.splitlines())) <= width
    (header,) = (line.split() for line in text.splitlines() if "requests/s" in line)
    assert " ".join(header) == f"load ok requests/s tokens/s {percentiles}"
    assert all(f"concurrency {count} " in text for count in (1, 8, 64))
    second = [line.split()[:3] for line in text.splitlines() if "±" in line]
    assert second == [[seconds, "s", "400"] for seconds in ("120.0", "15.0", "2.00")]
    assert all(f"\n{name}: " in text for name in ("TTFT", "ITL", "E2E"))


def test_names_of_files() -> None:
    """The narrow first column has the names of files; folders only where they tell them apart."""
    first = level(8).model_copy(update={"scenario": "/data/of/our/users/traces/chat.jsonl"})
    text = show(report(first, level(8)), 80)
    assert "\nchat.jsonl" in text
    second = first.model_copy(update={"scenario": "/other/chat.jsonl"})
    text = show(report(first, second), 160)
    assert "\n/other/chat.jsonl" in text


def test_lengths_of_requests() -> None:
    """The summary has the lengths of prompts and responses, and who counted them."""
    text = show(report(level(1), level(8)), 160)
    assert "\nshort: 12.0 input and 20.0 output tokens per request on average.\n" in text
    update = {"input": 36_000, "counted_by": "chunks"}
    shown = level(8, failed=100)
    counted = shown.model_copy(update={"tokens": shown.tokens.model_copy(update=update)})
    assert (
        "\nshort: 90.0 input and 20.0 output tokens per request on average; the server does not "
        "report all of them, so chunks were counted.\n"
    ) in show(report(counted), 160)


@pytest.mark.parametrize("details", [False, True])
def test_narrow_terminal(*, details: bool) -> None:
    """A narrow terminal gets a list, with nothing cut off."""
    text = show(report(level(8)), 44, details=details)
    assert "…" not in text
    assert "  TTFT P50 ms      " in text
    assert "  ok               100% of 400\n" in text


def test_terminal_without_utf8() -> None:
    """The table needs no characters beyond ASCII."""
    assert "+/-" in show(report(level(8)), 80, "ascii")


def test_width_of_details() -> None:
    """Narrow tables leave out rare columns."""
    counts = [len(build_metrics_table(level(8), width).columns) for width in (50, 80, 160)]
    assert counts == [3, 8, 15]


def test_failures() -> None:
    """Failures are listed by kind, with the reason if the server gave one."""
    shown = level(8, failed=3)
    counts = {"errors": {"http_503": 2, "timeout": 1}, "error_messages": {"http_503": "no room"}}
    requests = shown.requests.model_copy(update=counts)
    lines = list(format_failures([shown.model_copy(update={"requests": requests})]))
    assert lines == [
        "short, concurrency 8: 2 x http_503: no room",
        "short, concurrency 8: 1 x timeout",
    ]
