"""A circuit breaker opens on failures, lets trials through and closes on complete responses."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from maxgate.errors import (
    InvalidRequest,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from maxgate.upstream.breaker import CircuitBreaker
from maxgate.upstream.errors import EngineUnreachable
from maxgate.upstream.settings import BreakerSettings

SETTINGS = BreakerSettings(consecutive_failures=3, min_responses=10, trials=2)


def create_open_breaker() -> CircuitBreaker:
    """Return a breaker that opened at 100 s, for 2 s."""
    breaker = CircuitBreaker(SETTINGS)
    for _ in range(3):
        breaker.fail(100.0, 99.0, "failed")
    return breaker


def recover() -> CircuitBreaker:
    """Return a breaker that closed at 102 s, after two trials."""
    breaker = create_open_breaker()
    for _ in range(2):
        breaker.begin(102.0)
        breaker.succeed(102.0, 102.0)
    return breaker


def test_consecutive_failures() -> None:
    """Failures in a row open it, and a complete response between them does not let it."""
    breaker = CircuitBreaker(SETTINGS)
    for outcome in ("fail", "fail", "succeed", "fail", "fail"):
        if outcome == "fail":
            breaker.fail(1.0, 0.0, "failed")
        else:
            breaker.succeed(1.0, 0.0)
    assert breaker.allows(1.0)
    breaker.fail(1.0, 0.0, "the last straw")
    assert (breaker.allows(1.0), breaker.state(1.0), breaker.cause) == (
        False,
        "open",
        "the last straw",
    )


def test_failure_share() -> None:
    """Half of the recent responses open it, even if failures are never in a row."""
    breaker = CircuitBreaker(SETTINGS)
    for number in range(5):
        assert breaker.allows(number / 10)
        breaker.succeed(number / 10, 0.0)
        breaker.fail(number / 10, 0.0, "failed")
    assert breaker.state(1.0) == "open"


def test_counted_successes() -> None:
    """Complete responses that callers count have the same effect as those that they record."""
    breaker = CircuitBreaker(SETTINGS)
    for _ in range(5):
        breaker.fail(1.0, 0.0, "failed")
        breaker.fail(1.0, 0.0, "failed")
        breaker.successes += 9
        breaker.count_successes(1.0)
    breaker.fail(1.0, 0.0, "failed")
    breaker.successes += 1
    breaker.fail(1.0, 0.0, "failed")
    breaker.fail(1.0, 0.0, "failed")
    assert breaker.state(1.0) == "closed"
    breaker.fail(1.0, 0.0, "failed")
    assert breaker.state(1.0) == "open"


def test_trials_left_over() -> None:
    """A trial that is under way when the breaker closes is one of the requests of the ramp."""
    breaker = create_open_breaker()
    for _ in range(3):
        breaker.begin(102.0)
        breaker.note_first_token(102.0)
    for _ in range(2):
        breaker.succeed(103.0, 102.0)
    assert (breaker.state(103.0), breaker.trials) == ("closed", 1)
    breaker.abandon(102.0)
    assert breaker.trials == 0


def test_old_failures() -> None:
    """Failures outside the window do not count."""
    breaker = CircuitBreaker(SETTINGS)
    for number in range(20):
        breaker.succeed(number * 10.0, 0.0)
        breaker.fail(number * 10.0, 0.0, "failed")
    assert breaker.state(200.0) == "closed"


def test_trials() -> None:
    """After the open time, one trial is allowed, then one more for each first token."""
    breaker = create_open_breaker()
    assert (breaker.allows(101.9), breaker.allows(102.0)) == (False, True)
    breaker.begin(102.0)
    assert not breaker.allows(102.5)
    breaker.note_first_token(102.0)
    assert breaker.allows(102.5)
    breaker.begin(102.5)
    assert not breaker.allows(103.0)


def test_recovery() -> None:
    """Complete trials close it."""
    breaker = create_open_breaker()
    for at in (102.0, 103.0):
        assert breaker.state(at) == "half_open"
        breaker.begin(at)
        breaker.note_first_token(at)
        breaker.succeed(at, at)
    assert (breaker.state(104.0), breaker.cause) == ("closed", None)


def test_trials_after_recovery() -> None:
    """No trial is under way once it is closed."""
    breaker = create_open_breaker()
    for _ in range(3):
        breaker.begin(102.0)
    for _ in range(3):
        breaker.succeed(103.0, 102.0)
    assert (breaker.state(103.0), breaker.trials) == ("closed", 0)


def test_failed_trial() -> None:
    """Each failed trial doubles the open time, up to the maximum."""
    breaker, at, waits = create_open_breaker(), 102.0, []
    for _ in range(6):
        breaker.begin(at)
        breaker.fail(at, at, "failed")
        waits.append(next(s for s in range(1, 100) if breaker.allows(at + s)))
        at += waits[-1]
    assert waits == [4, 8, 16, 30, 30, 30]


def test_flapping() -> None:
    """An engine that fails again soon after its recovery is out for twice as long."""
    breaker = recover()
    for _ in range(3):
        breaker.fail(110.0, 109.0, "failed")
    assert (breaker.allows(113.9), breaker.allows(114.0)) == (False, True)


def test_failures_after_recovery() -> None:
    """Soon after a recovery, two failures in a row open it again, but not a single one."""
    breaker = recover()
    breaker.fail(110.0, 109.0, "failed")
    assert breaker.state(110.0) == "closed"
    breaker.fail(110.0, 109.0, "failed")
    assert breaker.state(110.0) == "open"


@pytest.mark.parametrize(
    ("seconds", "limit"), [(0.0, 2), (2.0, 2), (3.9, 3), (4.0, 4), (12.0, 16), (23.9, 125)]
)
def test_ramp(seconds: float, limit: int) -> None:
    """After a recovery, the number of requests at once doubles every four seconds."""
    breaker = recover()
    at = 102.0 + seconds
    allowed = 0
    while breaker.allows(at):
        breaker.begin(at)
        allowed += 1
    assert allowed == limit
    breaker.succeed(at, at)
    assert breaker.allows(at)
    assert (breaker.is_restricted(at), breaker.is_restricted(126.0)) == (True, False)
    assert breaker.allows(126.0)


def test_failure_in_ramp() -> None:
    """Every end of a request makes room for another one, and a new trip begins from the start."""
    breaker = recover()
    breaker.begin(102.0)
    breaker.refuse(102.0, 102.0, None)
    breaker.begin(104.0)
    breaker.fail(104.0, 104.0, "failed")
    breaker.begin(104.0)
    breaker.begin(104.0)
    assert breaker.trials == 2
    breaker.fail(104.5, 104.0, "failed")
    assert (breaker.state(104.5), breaker.trials) == ("open", 0)
    breaker.succeed(105.0, 104.0)
    assert breaker.trials == 0


@pytest.mark.parametrize("started_at", [109.0, 110.5])
def test_failure_between_successes(started_at: float) -> None:
    """Soon after a recovery, only a request sent after a failure can end the doubts about it."""
    breaker = recover()
    breaker.fail(110.0, 109.9, "failed")
    assert (breaker.allows(110.1), breaker.is_restricted(110.1)) == (True, True)
    breaker.begin(110.1)
    breaker.succeed(110.6, started_at)
    assert breaker.allows(110.7) is (started_at > 110.0)
    breaker.fail(110.8, 110.1, "failed")
    assert breaker.state(110.8) == ("closed" if started_at > 110.0 else "open")


def test_earlier_requests() -> None:
    """Outcomes of requests that were sent before it opened change nothing."""
    breaker = create_open_breaker()
    breaker.begin(102.0)
    for _ in range(5):
        breaker.succeed(103.0, 99.0)
        breaker.fail(103.0, 99.0, "failed")
        breaker.abandon(99.0)
    assert (breaker.state(103.0), breaker.allows(103.0)) == ("half_open", False)


def test_full() -> None:
    """A replica at capacity is paused, for twice as long each time, and is not broken."""
    breaker, at, waits = CircuitBreaker(SETTINGS), 0.0, []
    for _ in range(7):
        breaker.refuse(at, at, None)
        waits.append(next(s for s in range(1, 100) if breaker.allows(at + s)))
        at += waits[-1]
    assert (waits, breaker.state(at), breaker.trips) == ([1, 2, 4, 8, 16, 30, 30], "closed", 0)


def test_full_with_retry_after() -> None:
    """The replica's own Retry-After is honoured, within reason."""
    breaker = CircuitBreaker(SETTINGS)
    breaker.refuse(0.0, 0.0, 7)
    assert (breaker.allows(6.9), breaker.allows(7.0)) == (False, True)
    breaker.refuse(10.0, 10.0, 9999)
    assert (breaker.allows(39.9), breaker.allows(40.0)) == (False, True)


def test_refusals_of_one_moment() -> None:
    """Requests that were sent before the first refusal do not prolong the pause further."""
    breaker = CircuitBreaker(SETTINGS)
    for number in range(9):
        breaker.refuse(1 + number / 100, number / 100, 2)
    assert (breaker.allows(3.07), breaker.allows(3.08)) == (False, True)


def test_one_request_after_a_pause() -> None:
    """After a pause, one request at a time is sent until one is not refused."""
    breaker = CircuitBreaker(SETTINGS)
    breaker.refuse(0.0, 0.0, None)
    breaker.begin(1.0)
    assert (breaker.allows(1.0), breaker.is_restricted(1.0)) == (False, True)
    breaker.note_first_token(1.0)
    assert (breaker.allows(1.1), breaker.is_restricted(1.1)) == (True, False)


def test_silent_request_after_a_pause() -> None:
    """A request that gets no response after a pause holds back others for a second."""
    breaker = CircuitBreaker(SETTINGS)
    breaker.refuse(0.0, 0.0, None)
    breaker.begin(1.0)
    assert (breaker.allows(1.9), breaker.allows(2.0)) == (False, True)


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (UpstreamError("x"), "open"),
        (UpstreamTimeout("x"), "open"),
        (EngineUnreachable("disconnect"), "open"),
        (EngineUnreachable("refused"), "open"),
        (EngineUnreachable("stale"), "closed"),
        (UpstreamOverloaded("x"), "closed"),
        (UpstreamUnavailable("x"), "closed"),
        (InvalidRequest("x"), "closed"),
        (GeneratorExit(), "closed"),
        (KeyboardInterrupt(), "closed"),
        (None, "closed"),
    ],
)
def test_outcomes(error: BaseException | None, state: str) -> None:
    """Failures of the engine count; refusals, mistakes of clients and cancellations do not."""
    breaker = CircuitBreaker(SETTINGS)
    for _ in range(9):
        breaker.record(error, 1.0, 0.0, closed=False)
    assert breaker.state(1.0) == state


def test_closed_at_stop_string() -> None:
    """A stream that a layer above ends is complete; one that a client leaves is not."""
    breaker = create_open_breaker()
    for _ in range(2):
        breaker.begin(102.0)
        breaker.record(GeneratorExit(), 103.0, 102.0, closed=True)
    assert breaker.state(103.0) == "closed"


class Machine(RuleBasedStateMachine):
    """Requests begin, get tokens and end in every way and order."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.breaker = CircuitBreaker(SETTINGS)
        self.running: list[float] = []

    @rule(seconds=st.floats(0.001, 40))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    @rule()
    def begin(self) -> None:
        """Send a request; without another replica, also if the breaker does not allow it."""
        self.breaker.begin(self.now)
        self.running.append(self.now)

    @rule()
    def try_again(self) -> None:
        """Find the engine healthy after it was unreachable."""
        self.now += 0.001
        self.breaker.try_again(self.now)
        assert self.breaker.state(self.now) != "open"

    @precondition(lambda self: self.breaker.opened_at is None)
    @rule()
    def eject(self) -> None:
        """Find the engine far slower than its peers."""
        self.breaker.eject(self.now, "slow")
        assert self.breaker.state(self.now) == "open"

    @precondition(lambda self: self.running)
    @rule(
        data=st.data(),
        outcome=st.sampled_from(["succeed", "fail", "refuse", "abandon", "first token"]),
    )
    def end(self, data: st.DataObject, outcome: str) -> None:
        """End a request, or let it have its first token."""
        at = data.draw(st.integers(0, len(self.running) - 1))
        started_at = self.running[at]
        if outcome == "first token":
            self.breaker.note_first_token(started_at)
            return
        del self.running[at]
        if outcome == "succeed":
            self.breaker.succeed(self.now, started_at)
        elif outcome == "fail":
            self.breaker.fail(self.now, started_at, "failed")
        elif outcome == "refuse":
            self.breaker.refuse(self.now, started_at, None)
        else:
            self.breaker.abandon(started_at)

    @invariant()
    def is_found_again(self) -> None:
        """With nothing under way, a request is allowed within the longest pause."""
        if not self.running:
            assert self.breaker.allows(self.now + SETTINGS.max_open_seconds)

    @invariant()
    def trials_are_counted(self) -> None:
        """There are never more trials than requests under way."""
        assert 0 <= self.breaker.trials <= len(self.running)


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
