"""Comparison of two servers in pairs, when the second request of a pair hits a warm cache."""

import numpy as np
import pytest

from maxgate.loadtest.analysis.pairing import compare_pairs, describe_order_effect
from maxgate.loadtest.arrivals import choose_side_order
from maxgate.loadtest.client.request_record import RequestRecord
from maxgate.results.records import Records
from maxgate.results.report import Change
from tests.fakes.load_records import records, request_record

CACHED = 0.030
"""Seconds by which the second request of a pair is faster if both share a prefix cache."""


def pairs(
    count: int, *, cost: float, cached: float = CACHED, lost: frozenset[int] = frozenset()
) -> Records:
    """Pairs in sequence; the target takes `cost` seconds longer than the baseline."""
    rng = np.random.default_rng(17)
    made: list[RequestRecord] = []
    for index in range(count):
        if index in lost:
            continue
        for place, side in enumerate(choose_side_order(index, 2, seed=0)):
            first = 0.1 + (cost if side == 0 else 0.0) - cached * place + rng.normal(0, 0.001)
            sent = 1.0 + 2 * index + place
            outputs = (sent + first, sent + first + 0.5)
            made.append(request_record(index, sent=sent, outputs=outputs, side=side))
    return records(*made)


def ttft(of: Records, statistic: str = "p50") -> Change:
    """The change of the time to first token."""
    found = compare_pairs(of, level="x", stream=True, seed=0)
    (change,) = (c for c in found if (c.metric, c.statistic) == ("ttft", statistic))
    return change


@pytest.mark.parametrize("statistic", ["mean", "p50", "p95"])
def test_order_effect_cancels_out(statistic: str) -> None:
    """A warm cache for the second request of each pair favours neither server."""
    change = ttft(pairs(200, cost=0.0), statistic)
    assert change.verdict == "same"
    assert change.difference == pytest.approx(0.0, abs=0.0005)


def test_cost_below_order_effect() -> None:
    """A cost is found beside an order effect ten times as large."""
    change = ttft(pairs(64, cost=0.003))
    assert change.interval is not None
    assert (change.verdict, change.difference) == ("worse", pytest.approx(0.003, abs=0.001))
    assert change.interval.high - change.interval.low < 0.003


def test_unbalanced_orders() -> None:
    """Losing most pairs of one order biases nothing."""
    target_first = [i for i in range(400) if choose_side_order(i, 2, seed=0)[0] == 0]
    change = ttft(pairs(400, cost=0.0, lost=frozenset(target_first[:150])), "mean")
    assert (change.verdict, change.difference) == ("same", pytest.approx(0.0, abs=0.0005))


def test_single_order_is_unclear() -> None:
    """Pairs in one order only give no verdict."""
    baseline_first = frozenset(i for i in range(100) if choose_side_order(i, 2, seed=0)[0] == 1)
    change = ttft(pairs(100, cost=0.0, lost=baseline_first))
    reason = "needs 5 pairs in each order, has 50 and 0"
    assert (change.verdict, change.reason) == ("unclear", reason)


def test_describe_order_effect() -> None:
    """The order effect is described if it is significant."""
    effect = describe_order_effect(pairs(64, cost=0.003), stream=True, seed=0)
    assert effect == "the second request of a pair was 30 ms faster than the first"
    assert describe_order_effect(pairs(64, cost=0.003, cached=0.0), stream=True, seed=0) is None


def test_side_order() -> None:
    """Each server goes first in half of the pairs, in random sequence."""
    orders = [choose_side_order(index, 2, seed=5)[0] for index in range(1000)]
    assert sum(orders) == 500
    assert orders[:20] != [0, 1] * 10
    assert orders == [choose_side_order(index, 2, seed=5)[0] for index in range(1000)]
    assert choose_side_order(3, 1, seed=5) == [0]
