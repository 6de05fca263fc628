"""Detection of saturation in a sweep."""

from typing import Any

import pytest

from maxgate.loadtest.analysis.saturation import detect_saturation
from maxgate.results.report import Level
from tests.fakes.load_records import steady
from tests.unit.loadtest.analysis.test_level_report import report


def step(name: str, *, throughput: float, failed: int = 0, **fields: Any) -> Level:
    """A level of 20 requests with this throughput."""
    level = report(steady([0.1] * 20, failed=failed), name=name, **fields)
    measured = level.throughput.model_copy(update={"requests": throughput})
    return level.model_copy(update={"throughput": measured})


BUSY = {"cpu": 0.95}
RATE = {"concurrency": None, "rate": 20.0}


@pytest.mark.parametrize(
    ("last", "found", "level", "reason"),
    [
        (step("b", throughput=19), False, "b", "throughput rose with every step"),
        (step("b", throughput=10.1), True, "a", "throughput changed by +1.0% from a to b"),
        (step("b", throughput=19, failed=1), True, "a", "5.0% of the requests failed at b"),
        (step("b", throughput=19, **RATE), False, "b", "throughput rose with every step"),
        (step("b", throughput=18, **RATE), True, "a", "throughput was 18.0 of 20.0 requests/s"),
        (
            step("b", throughput=19, **BUSY),
            True,
            None,
            "the load generator was the bottleneck at b: a worker process used 95% of its core; "
            "raise --processes",
        ),
    ],
)
def test_second_step(last: Level, found: bool, level: str | None, reason: str) -> None:
    """The second step decides whether the first one was the limit."""
    verdict = detect_saturation([step("a", throughput=10), last])
    assert (verdict.found, verdict.level, verdict.reason) == (found, level, reason)


def test_first_step() -> None:
    """A single step without problems decides nothing."""
    assert not detect_saturation([]).found
    assert not detect_saturation([step("a", throughput=10)]).found
