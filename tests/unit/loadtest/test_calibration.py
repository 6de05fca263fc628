"""The client's error error_bounds hold what the client adds, in the tail too."""

import pytest

from maxgate.loadtest.calibration import widen_by_lag
from maxgate.loadtest.client.timing import expand_pause, summarize_lag
from maxgate.loadtest.messages import Lag, max_lag
from maxgate.results.distribution import ClientError

QUIET = ClientError(bias=0.0, mean=0.0001, p99=0.0004, p999=0.0005, max=0.0006, count=1600)


def test_a_percentile_in_the_tail_has_the_bar_of_errors_as_rare_as_it() -> None:
    """In 10,000 gaps the last ten decide P99.9; twenty late wake-ups in 10,000 are below P99."""
    late = [0.0001] * 9980 + [0.003] * 20
    bar = widen_by_lag({"chunk_gap": QUIET}, summarize_lag(late), 9)["chunk_gap"]
    assert (bar.at("50"), bar.at("99")) == (0.0004, 0.0004)
    assert (bar.at("99.9"), bar.max) == (0.003, 0.003)


def test_either_end_of_a_time_may_be_late() -> None:
    """1 in 160 wake-ups is late: each spoils two gaps, so more than 1 gap in 100 is off by it."""
    late = [0.0001] * 1590 + [0.002] * 10
    assert widen_by_lag({"chunk_gap": QUIET}, summarize_lag(late), 9)["chunk_gap"].at("99") == 0.002


def test_a_time_per_token_has_its_share_of_the_lateness() -> None:
    """An answer of 11 tokens has ten times between them."""
    late = summarize_lag([0.02] * 100)
    found = widen_by_lag({"tpot": QUIET, "normalized_latency": QUIET}, late, 11)
    error_bounds = (found["tpot"].at("50"), found["normalized_latency"].at("50"))
    assert error_bounds == pytest.approx((0.002, 0.02 / 11))
    assert widen_by_lag({"tpot": QUIET}, late, 0)["tpot"].at("50") == 0.02


def test_a_report_without_an_error_of_the_tail_has_the_one_it_has() -> None:
    old = QUIET.model_copy(update={"p999": None})
    assert old.at("99.9") == old.p99
    assert widen_by_lag({"ttft": old}, Lag(), 9)["ttft"].at("99.9") == old.p99


def test_several_processes_are_as_late_as_the_latest() -> None:
    one, other = Lag(mean=0.1, p99=0.2, p995=0.3, p9995=0.9, max=1.0), Lag(mean=0.2, p99=0.1)
    assert max_lag([one, other]) == one.model_copy(update={"mean": 0.2})


def test_a_long_pause_counts_for_every_alarm_that_it_held_up() -> None:
    """Four were to ring within 2 s that were a single pause."""
    ringing = expand_pause(10.0, 12.0, 0.5)
    assert ringing == [2.0, 1.5, 1.0, 0.5]
    assert expand_pause(12.0, 12.1, 0.5) == pytest.approx([0.1])
    assert expand_pause(12.0, 12.0, 0.5) == [0.0]


def test_never_woken_is_not_late() -> None:
    assert summarize_lag([]) == Lag()


def test_two_machines_have_the_larger_error_of_the_two() -> None:
    other = ClientError(bias=-0.1, mean=0.2, p99=0.0003, max=0.5, count=4)
    assert (
        QUIET.elementwise_max(other)
        == other.elementwise_max(QUIET)
        == ClientError(bias=0.0, mean=0.2, p99=0.0004, p999=0.0005, max=0.5, count=1604)
    )
