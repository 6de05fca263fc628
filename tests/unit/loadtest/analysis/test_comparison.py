"""Only what did the same work is compared."""

from datetime import UTC, datetime

import pytest

from maxgate.errors import ConfigurationError
from maxgate.loadtest.analysis.comparison import check_comparable, compare
from maxgate.loadtest.analysis.level_report import level_report
from maxgate.loadtest.run import exit_code
from maxgate.results.report import Grade, Report
from tests.fakes.load_records import steady
from tests.unit.loadtest.analysis.test_level_report import plan
from tests.unit.results.test_files import report


def measured(latency: float, name: str = "concurrency 1") -> Report:
    """Six hundred requests that took about so long."""
    times = [latency * (1 + (k * 37 % 100) / 1000) for k in range(600)]
    level = level_report(plan(name=name), steady(times))
    return report().model_copy(update={"levels": [level], "created_at": datetime.now(UTC)})


def check(old: Report, new: Report) -> None:
    """Whether the second may be compared with the first."""
    check_comparable(
        old,
        fingerprint=new.workload.fingerprint,
        stream=new.workload.stream,
        kind=new.load.kind,
        levels=[(level.scenario, level.name) for level in new.levels],
    )


def test_another_workload_is_refused() -> None:
    other = report().workload.model_copy(update={"fingerprint": "g"})
    with pytest.raises(ConfigurationError, match="different workloads: the workload's fingerprint"):
        check(measured(0.1), measured(0.1).model_copy(update={"workload": other}))


def test_another_load_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no level of load is in both"):
        check(measured(0.1), measured(0.1, "concurrency 2"))


def test_without_raw_records_the_intervals_are_compared() -> None:
    old, new = measured(0.1), measured(0.2)
    check(old, new)
    changes = {(c.metric, c.statistic): c.verdict for c in compare(old, new, None, None, 0)}
    assert changes == {
        ("latency", "p50"): "worse",
        ("latency", "p95"): "worse",
        ("latency", "p99"): "worse",
        ("throughput", "rate"): "same",
        ("error_rate", "rate"): "same",
    }


def test_exit_codes() -> None:
    """A level at which nothing succeeded shows nothing, though no target was set."""
    fine = measured(0.1)
    nothing = fine.model_copy(update={"levels": [level_report(plan(), steady([]))]})
    refused = level_report(plan(), steady([0.1] * 30, failed=30))
    missed = Grade(
        target="p50",
        level="x",
        limit=1,
        better="lower",
        value=2,
        unit="s",
        count=1,
        verdict="fail",
        reason="",
    )
    worse = compare(fine, measured(0.2), None, None, 0)
    assert exit_code(fine) == 0
    assert exit_code(nothing) == 1
    assert exit_code(fine.model_copy(update={"levels": [refused]})) == 1
    assert exit_code(fine.model_copy(update={"grades": [missed]})) == 1
    assert exit_code(fine.model_copy(update={"comparison": worse})) == 1
