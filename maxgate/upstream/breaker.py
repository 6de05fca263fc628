"""A circuit breaker per replica and model, fed with the outcomes of whole responses.

Thresholds follow Envoy's outlier detection and Linkerd's circuit breaker, scaled to a few replicas.
"""

from typing import Final, Literal

from maxgate.errors import (
    UpstreamError,
    UpstreamOverloaded,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from maxgate.upstream.errors import EngineUnreachable
from maxgate.upstream.settings import BreakerSettings

BreakerState = Literal["closed", "open", "half_open"]

SLOW: Final = "slow"
SLOW_TOKENS: Final = "slow tokens"
"""Causes of a breaker that is open because its replica is far slower than its peers: with whole
responses and first tokens, or with the later tokens of its streams."""

# Time that a request after a pause has for its first token, before another one is sent.
_PROBE_SECONDS: Final = 1.0
# Consecutive refusals double the pause of a replica at capacity, up to the maximum.
_FIRST_FULL_PAUSE: Final = 1.0
_MAX_FULL_PAUSE: Final = 30.0
# Failures in a row that open the breaker again soon after a recovery; one may be by chance.
_FLAPPING_FAILURES: Final = 2


class CircuitBreaker:
    """Decides whether a replica gets requests for a model. Times are monotonic seconds.

    It opens after a number of failures in a row, or when too large a share of recent responses
    failed. When the open time is over, trial requests are let through, one more for each sign of
    recovery; enough complete responses close it, and a failure opens it for twice as long. Outcomes
    of requests that were sent before it opened are ignored.

    A replica at capacity is paused, which is no failure; then one request at a time is let through,
    until one is not refused. `opened_at` is None while the breaker is closed, `cause` why it is
    open, `trials` how many trial requests are under way, and `trips` how often it has opened.
    While it lets everything through, callers increment `successes` instead of recording complete
    responses, and call `count_successes` at short intervals.
    """

    __slots__ = (
        "_closed_at",
        "_consecutive",
        "_full_pause",
        "_full_until",
        "_open_seconds",
        "_open_until",
        "_outcomes",
        "_refused_at",
        "_settings",
        "_signs",
        "_trials_passed",
        "cause",
        "opened_at",
        "successes",
        "trials",
        "trips",
    )

    def __init__(self, settings: BreakerSettings) -> None:
        self._settings = settings
        self._consecutive = 0
        self._outcomes = _OutcomeWindow(settings.window)
        self.successes = 0
        self.opened_at: float | None = None
        self._open_until = 0.0
        self._open_seconds = 0.0
        self._closed_at: float | None = None
        self.trials = 0
        self._trials_passed = 0
        self._signs = 0
        self._full_until = 0.0
        self._full_pause = 0.0
        self._refused_at = float("-inf")
        self.cause: str | None = None
        self.trips = 0

    def state(self, now: float) -> BreakerState:
        """Return the state; `half_open` lets trial requests through."""
        if self.opened_at is None:
            return "closed"
        return "open" if now < self._open_until else "half_open"

    def allows(self, now: float) -> bool:
        """Whether a request may be sent."""
        if self.opened_at is None:
            return now >= self._full_until
        return now >= self._open_until and now >= self._full_until and self.trials <= self._signs

    def is_restricted(self, now: float) -> bool:
        """Whether it does not let all requests through."""
        return self.opened_at is not None or self._full_pause > 0 or now < self._full_until

    def is_full(self, now: float) -> bool:
        """Whether the replica has refused a request because it is at capacity."""
        return now < self._full_until

    def begin(self, now: float) -> None:
        """Record that a request is sent; exactly one of the outcomes below ends it."""
        if self.opened_at is not None and now >= self._open_until:
            self.trials += 1
        if self._full_pause and now >= self._full_until:
            self._full_until = now + _PROBE_SECONDS

    def record(
        self, error: BaseException | None, now: float, started_at: float, *, closed: bool
    ) -> None:
        """Record how a request ended that began at `started_at`.

        `closed` means that GeneratorExit ended a response that was arriving: at a stop string, a
        layer above closes it while it is being read.
        """
        if error is None or (closed and isinstance(error, GeneratorExit)):
            self.succeed(now, started_at)
        elif isinstance(error, EngineUnreachable):
            if error.failure == "stale":
                self.abandon(started_at)
            else:
                self.fail(now, started_at, error.cause)
        elif isinstance(error, UpstreamTimeout | UpstreamError):
            self.fail(now, started_at, error.message)
        elif isinstance(error, UpstreamOverloaded | UpstreamUnavailable):
            self.refuse(now, started_at, error.retry_after)
        else:  # the client's mistake, a cancellation or a fault of the gateway
            self.abandon(started_at)

    def note_first_token(self, started_at: float) -> None:
        """Record the first token of a request that began at `started_at`."""
        if self.cause != SLOW_TOKENS:  # of which the first one is no sign
            self.note_recovery(started_at)
        if started_at > self._refused_at:
            self._full_pause = self._full_until = 0.0

    def note_recovery(self, started_at: float) -> None:
        """Record a sign that a request is served well that began at `started_at`."""
        if self.is_trial(started_at):
            self._signs += 1

    def succeed(self, now: float, started_at: float) -> None:
        """Record a complete response to a request that began at `started_at`."""
        self._consecutive = 0
        if started_at > self._refused_at:
            self._full_pause = self._full_until = 0.0
        if self.opened_at is None:
            self._outcomes.add(now, 1)
        elif self.is_trial(started_at):
            self.trials -= 1
            self._trials_passed += 1
            if self._trials_passed >= self._settings.trials:
                self.opened_at, self._closed_at, self.cause = None, now, None
                self.trials = 0
                self._outcomes = _OutcomeWindow(self._settings.window)

    def count_successes(self, now: float) -> None:
        """Count the responses of `successes` as completed now."""
        if self.successes:
            self._consecutive = 0
            self._outcomes.add(now, self.successes)
            self.successes = 0

    def fail(self, now: float, started_at: float, cause: str) -> None:
        """Record a failure, with its cause in a few words."""
        if self.opened_at is not None:
            if self.is_trial(started_at):
                self._open(now, cause)
            return
        settings = self._settings
        self.count_successes(now)
        self._consecutive += 1
        self._outcomes.add(now, 1, failed=1)
        total, failed = self._outcomes.count(now)
        limit = settings.consecutive_failures
        if self._has_just_recovered(now):
            limit = min(limit, _FLAPPING_FAILURES)
        if self._consecutive >= limit or (
            total >= settings.min_responses and failed >= settings.failure_share * total
        ):
            self._open(now, cause)

    def refuse(self, now: float, started_at: float, retry_after: float | None) -> None:
        """Record a refusal for lack of capacity; `retry_after` is the replica's own, in seconds."""
        self.abandon(started_at)
        pause = min(retry_after or 0.0, _MAX_FULL_PAUSE)
        if started_at >= self._refused_at:  # not sent before the last refusal
            self._full_pause = min(max(2 * self._full_pause, _FIRST_FULL_PAUSE), _MAX_FULL_PAUSE)
            pause = max(self._full_pause, pause)
        self._refused_at = now
        self._full_until = max(self._full_until, now + pause)

    def abandon(self, started_at: float) -> None:
        """Record the end of a request that says nothing about the replica."""
        if self.is_trial(started_at):
            self.trials -= 1

    def try_again(self, now: float) -> None:
        """Allow a trial now: the engine was unreachable, and has returned or been restarted."""
        if self.opened_at is not None:
            self._open_until = min(self._open_until, now)
        self._full_until = 0.0

    def eject(self, now: float, cause: str) -> None:
        """Open the breaker of a replica that is far slower than its peers."""
        self._open(now, cause)

    def is_trial(self, started_at: float) -> bool:
        """Whether a request that began at `started_at` is a trial request."""
        return self.opened_at is not None and started_at >= self._open_until

    def _has_just_recovered(self, now: float) -> bool:
        return (
            self._closed_at is not None and now - self._closed_at < self._settings.flapping_window
        )

    def _open(self, now: float, cause: str) -> None:
        settings = self._settings
        # A replica that fails soon after it has recovered is flapping.
        is_flapping = self.opened_at is not None or self._has_just_recovered(now)
        self._open_seconds = (
            min(2 * self._open_seconds, settings.max_open_seconds)
            if is_flapping
            else settings.open_seconds
        )
        self.opened_at, self._open_until = now, now + self._open_seconds
        self._consecutive = self.trials = self._trials_passed = self._signs = 0
        self.cause = cause
        self.trips += 1


class _OutcomeWindow:
    """Outcomes of the current and the previous half of a window of `seconds`."""

    __slots__ = ("_current", "_half", "_previous", "_since")

    def __init__(self, seconds: float) -> None:
        self._half = seconds / 2
        self._since = 0.0
        self._current = [0, 0]
        self._previous = [0, 0]

    def add(self, now: float, total: int, failed: int = 0) -> None:
        if now - self._since >= self._half:
            self._rotate(now)
        self._current[0] += total
        self._current[1] += failed

    def count(self, now: float) -> tuple[int, int]:
        """Return the number of outcomes and of failures."""
        if now - self._since >= self._half:
            self._rotate(now)
        return self._current[0] + self._previous[0], self._current[1] + self._previous[1]

    def _rotate(self, now: float) -> None:
        is_recent = now - self._since < 2 * self._half
        self._previous = self._current if is_recent else [0, 0]
        self._current, self._since = [0, 0], now
