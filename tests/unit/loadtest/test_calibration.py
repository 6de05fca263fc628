"""The load generator's own error."""

import pytest

from maxgate.loadtest.calibration import merge_client_errors, widen_by_lag
from maxgate.loadtest.client.timing import summarize_lag
from maxgate.loadtest.messages import Lag
from maxgate.results.distribution import ClientError

QUIET = ClientError(bias=0.0, mean=0.0001, p99=0.0004, p999=0.0005, max=0.0006, count=1600)


def test_tail_error() -> None:
    """Twenty late wake-ups in 10,000 raise the error of P99.9 but not of P99."""
    late = [0.0001] * 9980 + [0.003] * 20
    error = widen_by_lag({"chunk_gap": QUIET}, summarize_lag(late), 9)["chunk_gap"]
    assert (error.at("50"), error.at("99")) == (0.0004, 0.0004)
    assert (error.at("99.9"), error.max) == (0.003, 0.003)


def test_both_ends_may_be_late() -> None:
    """One late wake-up in 160 affects more than 1 interval in 100."""
    late = [0.0001] * 1590 + [0.002] * 10
    assert widen_by_lag({"chunk_gap": QUIET}, summarize_lag(late), 9)["chunk_gap"].at("99") == 0.002


def test_lag_per_token() -> None:
    """Metrics per token divide the lag by the tokens of a response."""
    late = summarize_lag([0.02] * 100)
    found = widen_by_lag({"tpot": QUIET, "normalized_latency": QUIET}, late, 11)
    errors = (found["tpot"].at("50"), found["normalized_latency"].at("50"))
    assert errors == pytest.approx((0.002, 0.02 / 11))
    assert widen_by_lag({"tpot": QUIET}, late, 0)["tpot"].at("50") == 0.02


def test_missing_tail_error() -> None:
    """Old reports without a P99.9 error fall back to the P99 error."""
    old = QUIET.model_copy(update={"p999": None})
    assert old.at("99.9") == old.p99
    assert widen_by_lag({"ttft": old}, Lag(), 9)["ttft"].at("99.9") == old.p99


def test_merge_client_errors() -> None:
    """Merging keeps the larger value of each statistic and adds the counts."""
    other = ClientError(bias=-0.1, mean=0.2, p99=0.0003, max=0.5, count=4)
    larger = ClientError(bias=0.0, mean=0.2, p99=0.0004, p999=0.0005, max=0.5, count=1604)
    assert merge_client_errors({"ttft": QUIET}, {"ttft": other, "tpot": other}) == {
        "ttft": larger,
        "tpot": other,
    }
    assert merge_client_errors({"ttft": other}, {"ttft": QUIET}) == {"ttft": larger}
