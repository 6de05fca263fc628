"""Tests of title, subtitle and notes."""

from maxgate.report.headings import (
    build_notes,
    build_subtitle,
    build_title,
    list_warnings,
)
from maxgate.report.runs import Run
from maxgate.results.report import Server
from tests.unit.report.examples import level, report


def test_single_run() -> None:
    """A run is named by model, server, workload and date; a single level has its results."""
    run = Run("a", report(level(8, failed=3)))
    assert build_title([run]) == "Load test of small"
    assert build_subtitle([run]) == [
        "http://localhost:8000; short, streamed, at most 20 tokens; closed loop",
        "2026-11-23 12:00 UTC; client: 2 cores, Linux",
        "concurrency 8: 400 responses, 3 failed; 533 output tokens/s, 26.7 requests/s, "
        "TTFT P50 50.0 ms, TTFT P95 76.8 ms, ITL P50 12.8 ms, ITL P95 19.4 ms, "
        "E2E latency P50 296 ms, E2E latency P95 425 ms",
    ]


def test_several_runs() -> None:
    """Several runs are counted, with the values that they share and the range of dates."""
    other = Server(url="http://other", model="large")
    runs = [
        Run("a", report(level(8))),
        Run("b", report(level(8), started=90, server=other, interrupted=True)),
    ]
    assert build_title(runs) == "Load test of 2 models, 2 runs"
    assert build_subtitle(runs) == [
        "2 servers; short, streamed, at most 20 tokens; closed loop",
        "2026-11-23 12:00 UTC to 2026-11-23 13:30 UTC; client: 2 cores, Linux; "
        "1 of 2 runs interrupted",
    ]


def test_notes_state_what_is_missing() -> None:
    """The notes state the percentiles and intervals that small samples do not have."""
    intervals = "Bars: 95 % confidence intervals."
    assert [build_notes([level(8, count=count)]) for count in (15, 60, 300, 400)] == [
        [
            intervals,
            "P95 is omitted below 20 responses (1 of 1 levels).",
            "P99 is omitted below 100 responses (1 of 1 levels).",
        ],
        [
            intervals,
            "P95 has no interval below 72 responses (1 of 1 levels).",
            "P99 is omitted below 100 responses (1 of 1 levels).",
        ],
        [intervals, "P99 has no interval below 368 responses (1 of 1 levels)."],
        [intervals],
    ]
    assert build_notes([]) == [intervals]


def test_equal_warnings_are_one_line() -> None:
    """A warning is one line: of several runs with their names, or their number above three."""
    runs = [Run(name, report(level(8), warnings=["not calibrated"])) for name in "abcd"]
    assert list_warnings(runs[:1]) == ["not calibrated"]
    assert list_warnings(runs[:3]) == ["a, b, c: not calibrated"]
    assert list_warnings(runs) == ["4 runs: not calibrated"]
