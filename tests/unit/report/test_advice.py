"""Advice follows from the numbers, and quotes them."""

from typing import Any

import pytest

from maxgate.report.advice import advise
from maxgate.report.runs import Run
from maxgate.results.distribution import Interval
from maxgate.results.report import Change, Chunks, Client, Drift, Level, Saturation, Tokens
from tests.unit.report.examples import level, report


def advice(*levels: Level, **fields: Any) -> list[tuple[str, str]]:
    """The first words and the evidence of each."""
    found = advise(Run("a", report(*levels, **fields)))
    return [(" ".join(one.text.split()[:4]), one.evidence) for one in found]


def test_a_run_without_trouble_needs_none() -> None:
    assert advice(level(8)) == []


def test_first_of_all_the_measurement() -> None:
    client = Client(cpu=1.0, late_p99=0.2, limited=True, reason="its core was full")
    assert advice(level(8, count=50, client=client)) == [
        ("measure again with more", "concurrency 8: its core was full"),
        ("run longer: a P99", "short concurrency 8: 50 answers"),
    ]


def test_a_warm_cache_flatters() -> None:
    warm = level(8, tokens=Tokens(input=1000, cached=800, output=10, counted_by="usage"))
    evidence = "concurrency 8: 80% of the prompt tokens came from the prefix cache"
    assert advice(warm) == [("for what a first-time", evidence)]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("http_503", "http_503: no engine had"),
        ("timeout", "timeout: answers take longer"),
        ("http_418", "http_418: the server's log"),
    ],
)
def test_errors_by_kind(kind: str, words: str) -> None:
    broken = level(8, failed=100)
    requests = broken.requests.model_copy(update={"errors": {kind: 100}})
    assert advice(broken.model_copy(update={"requests": requests})) == [
        (words, "100 of 500 requests, 20.00%")
    ]


def test_where_more_load_gives_no_more() -> None:
    levels = [level(1, latency=0.1), level(8, latency=0.2), level(32, latency=0.78, ttft=0.06)]
    (knee, tokens) = advice(*levels)
    assert knee == ("keep the load at", "40/s at concurrency 8, 41/s at concurrency 32")
    assert tokens[0] == "every token is slower"
    said = Saturation(found=True, level="25 requests/s", reason="26 gave no more than 25")
    assert advice(level(8), saturation=said) == [("keep the load at", "26 gave no more than 25")]


def test_standing_in_line_is_told_from_slow_tokens() -> None:
    (queue,) = advice(level(1, latency=0.3, ttft=0.02), level(32, latency=0.68, ttft=0.4))
    assert queue[0] == "the wait for the"
    assert "first token 20.1 ms to 399 ms (x19." in queue[1] or "(x20." in queue[1]


def test_a_rate_that_is_not_kept_is_seen_from_the_schedule() -> None:
    slow = level(8, rate=40.0)
    late = slow.metrics["latency"].model_copy(update={"percentiles": {"95": 3.0}})
    metrics = slow.metrics | {"response_latency": late}
    found = advice(slow.model_copy(update={"metrics": metrics}))
    evidence = "concurrency 8: P95 425 ms from departure, 3.00 s from schedule"
    assert found == [("the server cannot take", evidence)]


def test_a_tail_and_bundled_tokens() -> None:
    chunks = Chunks(count=9, tokens_per_chunk=9.1, shared_reads=0, stalls=7, stall_seconds=0.2)
    one = level(8, chunks=chunks)
    tail = one.metrics["latency"].model_copy(update={"percentiles": {"50": 0.1, "99": 2.0}})
    found = advice(one.model_copy(update={"metrics": one.metrics | {"latency": tail}}))
    assert found == [
        ("a few answers are", "concurrency 8: P99 2.00 s against P50 100 ms, 7 stalls"),
        ("several tokens come in", "concurrency 8: 9.1 tokens per chunk"),
    ]


def test_the_gateways_cost_and_a_leak() -> None:
    cost = Change(
        metric="ttft", statistic="p50", level="concurrency 8", unit="s", before=0.1, after=0.12,
        difference=0.02, interval=Interval(low=0.01, high=0.03), verdict="worse", reason="",
    )  # fmt: skip
    drift = Drift(
        metric="ttft", level="concurrency 8", per_hour=0.2, interval=Interval(low=0.1, high=0.3),
        relative_per_hour=1.0, verdict="growing",
    )  # fmt: skip
    small = cost.model_copy(update={"difference": 0.001})
    assert advice(level(8), paired=[small, cost], drift=[drift]) == [
        ("the gateway is felt:", "concurrency 8, ttft p50: 100 ms without, 120 ms with it (+20%)"),
        ("ttft grows all through", "concurrency 8: 200 ms per hour"),
    ]


def test_time_per_token_alone_is_no_cost_of_the_gateway_when_answers_end_as_early() -> None:
    slower = Change(
        metric="tpot", statistic="p50", level="concurrency 4", unit="s", before=0.04, after=0.06,
        difference=0.02, interval=Interval(low=0.01, high=0.03), verdict="worse", reason="",
    )  # fmt: skip
    ended = slower.model_copy(update={"metric": "latency", "before": 0.6, "after": 0.8})
    evidence = "concurrency 4, tpot p50: 40.0 ms without, 60.0 ms with it (+50%)"
    assert (
        advice(level(4), paired=[slower]),
        advice(level(4), paired=[slower, ended]),
    ) == ([], [("the gateway is felt:", evidence)])
