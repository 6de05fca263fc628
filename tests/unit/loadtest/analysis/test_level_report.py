"""The report of a level, from hand-written records."""

from datetime import UTC, datetime
from typing import Any

import pytest

from maxgate.loadtest.analysis.level_report import LevelPlan, build_level
from maxgate.loadtest.analysis.targets import grade
from maxgate.results.distribution import ClientError
from maxgate.results.records import Records
from maxgate.results.report import DESIGN_TARGETS, Chunks, Level, Requests
from tests.fakes.load_records import records, request_record, steady


def plan(**fields: Any) -> LevelPlan:
    """The plan of a closed loop, with these fields replaced."""
    made: dict[str, Any] = {
        "name": "concurrency 1",
        "scenario": "short",
        "side": "target",
        "started_at": datetime(2030, 1, 1, tzinfo=UTC),
        "wall": 10.0,
        "cpu": 0.1,
        "stream": True,
        "scheduled": False,
        "concurrency": 1,
    }
    return LevelPlan(**(made | fields))


def report(found: Records, **fields: Any) -> Level:
    """The level of these records."""
    return build_level(plan(**fields), found)


def value(level: Level, metric: str) -> float | None:
    """The median of a metric."""
    return level.metrics[metric].percentiles["50"]


def test_metric_definitions() -> None:
    """One request yields every metric by its definition."""
    one = request_record(sent=1.0, late=0.2, outputs=(1.5, 1.6, 1.9), output_tokens=9)
    level = report(records(one), scheduled=True)
    found = {metric: value(level, metric) for metric, d in level.metrics.items() if d.count}
    assert found == pytest.approx(
        {
            "latency": 0.9,
            "response_latency": 1.1,
            "ttft": 0.5,
            "response_ttft": 0.7,
            "tpot": 0.4 / 8,
            "normalized_latency": 0.1,
            "ttfb": 0.5,
            "late": 0.2,
            "output_length": 9,
            "input_length": 10,
            "chunk_gap": 0.1,
        }
    )
    assert level.chunks == Chunks(
        count=3, tokens_per_chunk=3.0, shared_reads=0, stalls=0, stall_seconds=0.3
    )


def test_undefined_metrics_are_empty() -> None:
    """Undefined metrics are empty, not zero."""
    level = report(records(request_record(outputs=(1.5,))))
    assert (level.metrics["tpot"].count, level.metrics["tpot"].mean) == (0, None)
    assert level.metrics["chunk_gap"].count == 0


def test_chunk_gaps_within_requests() -> None:
    """Chunk gaps do not span two requests."""
    level = report(
        records(request_record(0, outputs=(1.1, 1.2)), request_record(1, outputs=(5.0, 5.4)))
    )
    gaps = level.metrics["chunk_gap"]
    assert (gaps.count, gaps.min, gaps.max) == (2, pytest.approx(0.1), pytest.approx(0.4))


def test_excluded_requests() -> None:
    """Warm-up and unfinished requests are in no metric."""
    level = report(
        records(
            request_record(0, outputs=(9.0,), warmup=True),
            request_record(1, outputs=(1.5,)),
            request_record(2, outputs=(), error="unfinished"),
        )
    )
    assert level.requests == Requests(attempted=1, succeeded=1, failed=0, unfinished=1)
    assert value(level, "latency") == 0.5


def test_failures_count_as_slow() -> None:
    """With 30 of 100 requests refused, P50 stays and P95 is never reached."""
    whole = report(steady([0.1 + k / 1000 for k in range(100)]))
    refused = report(steady([0.1 + k / 1000 for k in range(100)], failed=30))
    before, after = (one.metrics["latency"].including_failures for one in (whole, refused))
    assert before["95"] == pytest.approx(0.194)
    assert (after["50"], after["95"]) == (before["50"], None)
    verdicts = {g.target: (g.verdict, g.reason) for g in grade(refused, DESIGN_TARGETS)}
    assert verdicts["p95"] == (
        "fail",
        "30.0% of the requests failed, so the percentile was never reached",
    )
    assert verdicts["error_rate"][0] == "fail"
    assert refused.requests.errors == {"http_503": 30}


def test_metric_below_client_error() -> None:
    """A metric below the client's mean error has no values."""
    error = ClientError(bias=0.2, mean=0.2, p99=0.3, max=0.4, count=100)
    ttft = report(steady([0.1] * 30), client_errors={"ttft": error}).metrics["ttft"]
    assert (ttft.below_client_error, ttft.mean, ttft.percentiles) == (True, None, {})


def test_tail_below_client_error() -> None:
    """A tail percentile below its own error is left out."""
    error = ClientError(bias=0.1, mean=0.1, p99=0.2, p999=2.0, max=3.0, count=2000)
    ttft = report(steady([0.5] * 2000), client_errors={"ttft": error}).metrics["ttft"]
    assert (ttft.percentiles["99"], ttft.percentiles["99.9"]) == (0.25, None)


def test_limited_client() -> None:
    """A level that the client limited gets no grade."""
    level = report(steady([0.1] * 200), cpu=0.97)
    assert level.client.limited
    assert {g.verdict for g in grade(level, DESIGN_TARGETS)} == {"unclear"}


def test_goodput() -> None:
    """Goodput counts the requests that met every objective."""
    level = report(steady([0.1] * 40 + [0.9] * 40, failed=10), objectives={"latency": 0.5})
    assert (level.requests.good, level.requests.attempted) == (40, 80)
    late = report(
        records(request_record(outputs=(1.2,), late=3.0)), objectives={"ttft": 0.5}, scheduled=True
    )
    assert late.requests.good == 0


def test_timeline() -> None:
    """The time line has every second, also empty ones."""
    level = report(steady([0.5] * 20, every=0.25))
    assert [second.started for second in level.timeline] == [0, 4, 4, 4, 4, 4, 0]
    assert [second.succeeded for second in level.timeline] == [0, 2, 4, 4, 4, 4, 2]
    assert level.timeline[3].in_flight == pytest.approx(2.0)
    assert level.in_flight.max == 2


def test_sides() -> None:
    """The two sides of a pair are separate levels."""
    both = records(request_record(0, outputs=(1.5,)), request_record(0, outputs=(1.4,), side=1))
    assert value(report(both), "latency") == 0.5
    assert value(report(both, side="baseline"), "latency") == pytest.approx(0.4)
