"""Tests of the advice rules and the evidence that they quote."""

from typing import Any

import pytest

from maxgate.report.advice import advise
from maxgate.report.runs import Run
from maxgate.results.distribution import Interval
from maxgate.results.report import (
    Change,
    Chunks,
    Client,
    Drift,
    Level,
    Requests,
    Saturation,
    Tokens,
)
from tests.unit.report.examples import level, report


def list_advice(*levels: Level, **fields: Any) -> list[tuple[str, str]]:
    """Return the first four words and the evidence of each advice."""
    found = advise(Run("a", report(*levels, **fields)))
    return [(" ".join(one.text.split()[:4]), one.evidence) for one in found]


def test_no_advice_for_healthy_run() -> None:
    """A run without problems gives no advice."""
    assert list_advice(level(8)) == []


def test_measurement_advice_comes_first() -> None:
    """A limited client and too few requests are reported before anything else."""
    client = Client(cpu=1.0, late_p99=0.2, limited=True, reason="its core was full")
    assert list_advice(level(8, count=50, client=client)) == [
        ("repeat the measurement with", "concurrency 8: its core was full"),
        ("run longer: P99 needs", "short concurrency 8: 50 requests"),
    ]


def test_unmeasured_level() -> None:
    """A level during which no request ended needs a longer run."""
    none = Requests(attempted=0, succeeded=0, failed=0, unfinished=8)
    unmeasured = level(8, requests=none, metrics={})
    assert list_advice(unmeasured) == [("run longer: P99 needs", "short concurrency 8: 0 requests")]


def test_warm_cache() -> None:
    """Prompt tokens from the prefix cache suggest a measurement with a cold cache."""
    warm = level(8, tokens=Tokens(input=1000, cached=800, output=10, counted_by="usage"))
    evidence = "concurrency 8: 80% of prompt tokens came from the prefix cache"
    assert list_advice(warm) == [("use a cold cache", evidence)]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("http_503", "http_503: no engine had"),
        ("timeout", "timeout: responses take longer"),
        ("http_418", "http_418: see the server's"),
    ],
)
def test_error_remedies(kind: str, words: str) -> None:
    """Each kind of error has a remedy, and unknown kinds refer to the server's log."""
    broken = level(8, failed=100)
    requests = broken.requests.model_copy(update={"errors": {kind: 100}})
    assert list_advice(broken.model_copy(update={"requests": requests})) == [
        (words, "100 of 500 requests, 20.00%")
    ]


def test_saturation() -> None:
    """The load is limited where throughput stays flat, measured here or by the load test."""
    levels = [level(1, latency=0.1), level(8, latency=0.2), level(32, latency=0.78, ttft=0.06)]
    (knee, tokens) = list_advice(*levels)
    assert knee == ("limit the load to", "40/s at concurrency 8, 41/s at concurrency 32")
    assert tokens[0] == "the device is the"
    found = Saturation(found=True, level="25 requests/s", reason="26 gave no more than 25")
    assert list_advice(level(8), saturation=found) == [
        ("limit the load to", "26 gave no more than 25")
    ]


def test_queueing() -> None:
    """Time to first token that grows faster than time per token is queueing."""
    (queue,) = list_advice(level(1, latency=0.3, ttft=0.02), level(32, latency=0.68, ttft=0.4))
    assert queue[0] == "requests are queueing, because"
    assert "time to first token 20.1 ms to 399 ms (x19." in queue[1] or "(x20." in queue[1]


def test_unsustained_rate() -> None:
    """Latency from schedule far above latency from sending is a rate that is too high."""
    slow = level(8, rate=40.0)
    late = slow.metrics["latency"].model_copy(update={"percentiles": {"95": 3.0}})
    metrics = slow.metrics | {"response_latency": late}
    found = list_advice(slow.model_copy(update={"metrics": metrics}))
    evidence = "concurrency 8: P95 425 ms from sending, 3.00 s from schedule"
    assert found == [("the server cannot sustain", evidence)]


def test_slow_tail_and_multi_token_chunks() -> None:
    """A slow tail and chunks of several tokens each give advice."""
    chunks = Chunks(count=9, tokens_per_chunk=9.1, shared_reads=0, stalls=7, stall_seconds=0.2)
    one = level(8, chunks=chunks)
    tail = one.metrics["latency"].model_copy(update={"percentiles": {"50": 0.1, "99": 2.0}})
    found = list_advice(one.model_copy(update={"metrics": one.metrics | {"latency": tail}}))
    assert found == [
        ("a few responses are", "concurrency 8: P99 2.00 s, P50 100 ms, 7 stalls"),
        ("chunks hold several tokens:", "concurrency 8: 9.1 tokens per chunk"),
    ]


def test_gateway_overhead() -> None:
    """The first metric that is at least 5 % above the baseline gives advice."""
    cost = Change(
        metric="ttft", statistic="p50", level="concurrency 8", unit="s", before=0.1, after=0.12,
        difference=0.02, interval=Interval(low=0.01, high=0.03), verdict="worse", reason="",
    )  # fmt: skip
    small = cost.model_copy(update={"difference": 0.001})
    evidence = "concurrency 8, ttft p50: 100 ms without the gateway, 120 ms with it (+20%)"
    assert list_advice(level(8), paired=[small, cost]) == [
        ("the gateway adds noticeable", evidence)
    ]


def test_drift() -> None:
    """Growing latency and falling throughput give advice, the opposite does not."""
    drifts = [
        Drift(
            metric=metric, level="concurrency 8", per_hour=slope, verdict=verdict,
            interval=Interval(low=slope - 0.1, high=slope + 0.1), relative_per_hour=None,
        )
        for metric in ("ttft", "throughput")
        for slope, verdict in ((0.2, "growing"), (-0.2, "falling"))
    ]  # fmt: skip
    assert list_advice(level(8), drift=drifts) == [
        ("ttft is growing throughout", "concurrency 8: 200 ms per hour"),
        ("throughput is falling throughout", "concurrency 8: -0.2/s per hour"),
    ]


def test_tpot_alone_is_no_overhead() -> None:
    """A higher time per token counts as overhead only if latency is higher too."""
    slower = Change(
        metric="tpot", statistic="p50", level="concurrency 4", unit="s", before=0.04, after=0.06,
        difference=0.02, interval=Interval(low=0.01, high=0.03), verdict="worse", reason="",
    )  # fmt: skip
    ended = slower.model_copy(update={"metric": "latency", "before": 0.6, "after": 0.8})
    evidence = "concurrency 4, tpot p50: 40.0 ms without the gateway, 60.0 ms with it (+50%)"
    assert (
        list_advice(level(4), paired=[slower]),
        list_advice(level(4), paired=[slower, ended]),
    ) == ([], [("the gateway adds noticeable", evidence)])
