"""The warnings of the report."""

from maxgate.loadtest.options import Options
from maxgate.loadtest.report_builder import build_report
from maxgate.loadtest.session import RunResults
from maxgate.results.report import Requests
from tests.unit.report.examples import level


def test_level_without_requests() -> None:
    """A level that ended before its first request did says which flags change that."""
    unmeasured = level(8, requests=Requests(attempted=0, succeeded=0, failed=0, unfinished=8))
    report = build_report(
        Options(scenarios=("short",)),
        RunResults(levels=[unmeasured]),
        command=["load_test.py"],
        models=["m"],
        fingerprint="f" * 64,
    )
    assert report.warnings == [
        "short, concurrency 8: no request was measured, because all were warm-up or unfinished at "
        "the end; use a longer --duration (-d), more --requests (-n) or a smaller load"
    ]
