"""Samples become estimates with intervals, and these a verdict."""

import random
from collections.abc import Sequence

import pytest

from maxgate.api.admin.canary import Estimate, NewCanary
from maxgate.canary.samples import Sample, Times
from maxgate.canary.verdict import (
    compare_times,
    estimate_median,
    estimate_share,
    judge,
    measure_agreement,
)

CANARY = NewCanary(url="http://new:8000")


def test_median() -> None:
    """The interval of a median is between two of the values, and there is none below six."""
    assert estimate_median([]) == Estimate(value=None, low=None, high=None)
    assert estimate_median([3, 1, 2]) == Estimate(value=2, low=None, high=None)
    assert estimate_median([1, 2, 3, 4, 5, 6]) == Estimate(value=3.5, low=1, high=6)
    assert estimate_median(list(range(1, 101))) == Estimate(value=50.5, low=40, high=61)


def test_interval_of_median() -> None:
    """At least 95 % of the intervals have the median of the distribution."""
    draw = random.Random(1)
    for size in (6, 10, 50):
        found = [estimate_median([draw.expovariate(1) for _ in range(size)]) for _ in range(2000)]
        inside = sum((one.low or 0) <= 0.6931 <= (one.high or 0) for one in found)
        assert inside >= 0.94 * len(found)


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [(0, 100, 0, 3.7), (100, 100, 96.3, 100), (50, 100, 40.4, 59.6), (195, 200, 94.3, 98.9)],
)
def test_share(count: int, total: int, low: float, high: float) -> None:
    """Intervals are those of Wilson's formula."""
    found = estimate_share(count, total)
    assert found.value == 100 * count / total
    assert (found.low, found.high) == (
        pytest.approx(low, abs=0.05),
        pytest.approx(high, abs=0.05),
    )


def test_agreement() -> None:
    """Near ties agree; differences without a gap are different."""
    samples = [
        *[Sample(prefix=1)] * 5,
        Sample(prefix=0.5, divergence=10, gap=0.5),
        Sample(prefix=0.2, divergence=4, gap=3.0),
        Sample(prefix=0.3, divergence=6),
        Sample(error="timeout"),
    ]
    found = measure_agreement(samples, near_tie=0.5)
    assert (found.responses, found.equal, found.near_ties) == (8, 5, 1)
    assert (found.different, found.unexplained) == (2, 1)
    assert found.share.value == 75
    assert found.mean_prefix == pytest.approx(75)
    assert (found.median_divergence, found.median_gap) == (6, 1.75)


def build_pairs(*slowdowns: float) -> Sequence[Sample]:
    """Return pairs of streams whose requests have very different lengths."""
    return [
        Sample(old=Times(ttft=0.1 * n), new=Times(ttft=0.1 * n * (1 + slowdown / 100)))
        for n, slowdown in enumerate(slowdowns, 1)
    ]


def test_paired_times() -> None:
    """The change is that of pairs, so that the spread of the requests does not hide it."""
    [found] = compare_times(build_pairs(*[19, 20, 21] * 10), paired=True)
    assert (found.metric, found.samples) == ("ttft", 30)
    assert found.slowdown.value == pytest.approx(20)
    assert found.slowdown.low is not None
    assert found.slowdown.low >= 18.99


def test_unpaired_times() -> None:
    """Without pairs, the change is that of the medians, with a wide interval."""
    samples = [Sample(old=Times(tpot=n / 100)) for n in range(100, 120)]
    samples += [Sample(new=Times(tpot=n / 50)) for n in range(100, 120)]
    [found] = compare_times(samples, paired=False)
    expected = {"value": 100, "low": 100 * (2.08 / 1.15 - 1), "high": 100 * (2.3 / 1.04 - 1)}
    assert found.slowdown.model_dump() == pytest.approx(expected)


def test_no_pairs() -> None:
    """Times that only one engine has are not compared."""
    assert compare_times([Sample(old=Times(ttft=1), new=Times())], paired=True) == []


@pytest.mark.parametrize(
    ("equal", "different", "slowdown", "errors", "verdicts"),
    [
        (200, 0, 0, 0, ["pass", "pass", "pass"]),
        (195, 5, 0, 0, ["inconclusive", "pass", "pass"]),
        (170, 30, 0, 0, ["fail", "pass", "pass"]),
        (50, 0, 0, 0, ["inconclusive", "pass", "pass"]),
        (200, 0, 11, 0, ["pass", "fail", "pass"]),
        (200, 0, -50, 2, ["pass", "pass", "pass"]),
        (200, 0, 0, 3, ["pass", "pass", "fail"]),
        (0, 0, 0, 1, ["inconclusive", "inconclusive", "fail"]),
        (0, 0, 0, 0, ["inconclusive", "inconclusive", "inconclusive"]),
    ],
)
def test_verdict(
    equal: int, different: int, slowdown: float, errors: int, verdicts: list[str]
) -> None:
    """One failed check fails all; without one, an inconclusive check leaves the verdict open."""
    total = equal + different
    pairs = build_pairs(*[slowdown] * total)
    prefixes = [Sample(prefix=1)] * equal + [Sample(prefix=0.5, divergence=3)] * different
    agreement = measure_agreement(prefixes, CANARY.near_tie)
    times = compare_times(pairs, paired=True)
    checks, verdict = judge(CANARY, agreement, times, estimate_share(errors, errors + total))
    assert [check.verdict for check in checks] == verdicts
    assert verdict == min(verdicts, key=["fail", "inconclusive", "pass"].index)


def test_halted() -> None:
    """Failures in a row fail the canary, however few they are among all requests."""
    checks, verdict = judge(CANARY, None, [], estimate_share(5, 10_000), halted=True)
    assert (checks[-1].name, checks[-1].verdict, verdict) == ("errors", "fail", "fail")


def test_noisy_times() -> None:
    """A change whose interval includes the limit is inconclusive."""
    times = compare_times(build_pairs(*[-20, 40] * 20), paired=True)
    checks, verdict = judge(CANARY, None, times, estimate_share(0, 40))
    assert ([check.name for check in checks], verdict) == (["slowdown", "errors"], "inconclusive")
