"""What a server costs over another, where the second of a pair finds the first one's prefix."""

import numpy as np
import pytest

from maxgate.loadtest.analysis.pairing import describe_order_effect, paired_changes
from maxgate.loadtest.arrivals import choose_side_order
from maxgate.loadtest.client.request_record import RequestRecord
from maxgate.results.records import Records
from maxgate.results.report import Change
from tests.fakes.load_records import records, request_record

CACHED = 0.030
"""What the second of a pair is faster by, when both servers have one prefix cache."""


def pairs(
    count: int, *, cost: float, cached: float = CACHED, unanswered: frozenset[int] = frozenset()
) -> Records:
    """Pairs one after another; the target takes `cost` longer than the baseline."""
    rng = np.random.default_rng(17)
    made: list[RequestRecord] = []
    for index in range(count):
        if index in unanswered:
            continue
        for place, side in enumerate(choose_side_order(index, 2, seed=0)):
            first = 0.1 + (cost if side == 0 else 0.0) - cached * place + rng.normal(0, 0.001)
            sent = 1.0 + 2 * index + place
            outputs = (sent + first, sent + first + 0.5)
            made.append(request_record(index, sent=sent, outputs=outputs, side=side))
    return records(*made)


def ttft(of: Records, statistic: str = "p50") -> Change:
    """The change of time to first token."""
    found = paired_changes(of, level="x", stream=True, seed=0)
    (change,) = (c for c in found if (c.metric, c.statistic) == ("ttft", statistic))
    return change


@pytest.mark.parametrize("statistic", ["mean", "p50", "p95"])
def test_a_warm_cache_for_the_second_of_a_pair_makes_no_server_faster(statistic: str) -> None:
    change = ttft(pairs(200, cost=0.0), statistic)
    assert change.verdict == "same"
    assert change.difference == pytest.approx(0.0, abs=0.0005)


def test_the_cost_is_found_beside_a_warm_cache_that_is_worth_ten_times_as_much() -> None:
    change = ttft(pairs(64, cost=0.003))
    assert change.interval is not None
    assert (change.verdict, change.difference) == ("worse", pytest.approx(0.003, abs=0.001))
    assert change.interval.high - change.interval.low < 0.003


def test_it_makes_no_difference_that_one_order_was_answered_less_often() -> None:
    """Of the pairs that begin with the target three quarters are lost."""
    target_first = [i for i in range(400) if choose_side_order(i, 2, seed=0)[0] == 0]
    change = ttft(pairs(400, cost=0.0, unanswered=frozenset(target_first[:150])), "mean")
    assert (change.verdict, change.difference) == ("same", pytest.approx(0.0, abs=0.0005))


def test_pairs_that_all_went_in_one_order_give_no_verdict() -> None:
    baseline_first = frozenset(i for i in range(100) if choose_side_order(i, 2, seed=0)[0] == 1)
    change = ttft(pairs(100, cost=0.0, unanswered=baseline_first))
    why = "needs 5 pairs in each order, has 50 and 0"
    assert (change.verdict, change.reason) == ("unclear", why)


def test_that_the_second_of_a_pair_was_faster_is_said() -> None:
    said = describe_order_effect(pairs(64, cost=0.003), stream=True, seed=0)
    assert said == "the second request of a pair was 30 ms faster than the first"
    assert describe_order_effect(pairs(64, cost=0.003, cached=0.0), stream=True, seed=0) is None


def test_each_side_goes_first_in_half_of_the_pairs_and_not_by_turns() -> None:
    orders = [choose_side_order(index, 2, seed=5)[0] for index in range(1000)]
    assert sum(orders) == 500
    assert orders[:20] != [0, 1] * 10
    assert orders == [choose_side_order(index, 2, seed=5)[0] for index in range(1000)]
    assert choose_side_order(3, 1, seed=5) == [0]
