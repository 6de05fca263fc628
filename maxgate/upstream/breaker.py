"""A circuit breaker per replica and model, fed with the outcomes of whole responses.

Thresholds follow Envoy's outlier detection and Linkerd's circuit breaker, scaled to a few replicas.
"""

import math
from typing import Final, Literal

from maxgate.errors import (
    UpstreamError,
    UpstreamOverloaded,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from maxgate.upstream.errors import EngineUnreachable
from maxgate.upstream.outcome_window import OutcomeWindow
from maxgate.upstream.settings import BreakerSettings

BreakerState = Literal["closed", "open", "half_open"]

SLOW: Final = "slow"
SLOW_TOKENS: Final = "slow tokens"
"""Causes of a breaker that is open because its replica is far slower than its peers: with whole
responses and first tokens, or with the later tokens of its streams."""

# Time that a request to a doubtful replica has for its first token, before another one is sent.
_PROBE_SECONDS: Final = 1.0
# Consecutive refusals double the pause of a replica at capacity, up to the maximum.
_FIRST_FULL_PAUSE: Final = 1.0
_MAX_FULL_PAUSE: Final = 30.0
# Failures in a row that open the breaker again soon after a recovery; one may be by chance.
_FLAPPING_FAILURES: Final = 2
# A recovered replica gets as many requests at once as there were trials, twice as many after each
# of these times, and then all of its requests.
_DOUBLING_SECONDS: Final = 4.0
_RAMP_SECONDS: Final = 6 * _DOUBLING_SECONDS


class CircuitBreaker:
    """Decides whether a replica gets requests for a model. Times are monotonic seconds.

    It opens after a number of failures in a row, or when too large a share of recent responses
    failed. When the open time is over, trial requests are let through, one more for each sign of
    recovery; enough complete responses close it, and a failure opens it for twice as long. Outcomes
    of requests that were sent before it opened are ignored. After it has closed, there is a limit
    of requests at once for a while, so that a replica that fails again has few of them.

    A replica at capacity is paused, which is no failure, and then doubtful: one request at a time
    is let through until one has a token. A replica that fails soon after a recovery is doubtful,
    too, and the failure of such a request opens the breaker, however earlier requests end.

    `opened_at` is None while the breaker is closed, `cause` why it is open, and `trips` how often
    it has opened. `trials` are the requests under way that were sent between the end of the open
    time and that of the limit.
    While it lets everything through, callers increment `successes` instead of recording complete
    responses, and call `count_successes` at short intervals.
    """

    __slots__ = (
        "_closed_at",
        "_consecutive",
        "_doubted_at",
        "_full_pause",
        "_full_until",
        "_is_doubtful",
        "_open_seconds",
        "_open_until",
        "_outcomes",
        "_ramp_until",
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
        self._outcomes = OutcomeWindow(settings.window)
        self.successes = 0
        self.opened_at: float | None = None
        self._open_until = 0.0
        self._open_seconds = 0.0
        self._ramp_until = 0.0
        self._closed_at: float | None = None
        self.trials = 0
        self._trials_passed = 0
        self._signs = 0
        self._full_until = 0.0
        self._full_pause = 0.0
        self._is_doubtful = False
        self._doubted_at = float("-inf")
        self.cause: str | None = None
        self.trips = 0

    def state(self, now: float) -> BreakerState:
        """Return the state; `half_open` lets trial requests through."""
        if self.opened_at is None:
            return "closed"
        return "open" if now < self._open_until else "half_open"

    def allows(self, now: float, *, above_limit: bool = False) -> bool:
        """Whether a request may be sent; `above_limit` ignores the limit after a recovery."""
        if self.opened_at is None:
            is_within = above_limit or self.trials + 1 <= self._find_limit(now)
            return is_within and now >= self._full_until
        return now >= self._open_until and now >= self._full_until and self.trials <= self._signs

    def is_restricted(self, now: float) -> bool:
        """Whether it does not let all requests through."""
        return (
            self.opened_at is not None
            or self._is_doubtful
            or now < self._full_until
            or now < self._ramp_until
        )

    def begin(self, now: float) -> None:
        """Record that a request is sent; exactly one of the outcomes below ends it."""
        self.trials += self.is_trial(now)
        if self._is_doubtful and now >= self._full_until:
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
        self._end_doubt(started_at)

    def note_recovery(self, started_at: float) -> None:
        """Record a sign that a request is served well that began at `started_at`."""
        if self.is_trial(started_at):
            self._signs += 1

    def succeed(self, now: float, started_at: float) -> None:
        """Record a complete response to a request that began at `started_at`."""
        self._consecutive = 0
        self._end_doubt(started_at)
        is_trial = self.is_trial(started_at)
        self.trials -= is_trial
        if self.opened_at is None:
            self._outcomes.add(now, 1)
        elif is_trial:
            self._trials_passed += 1
            if self._trials_passed >= self._settings.trials:
                self.opened_at, self._closed_at, self.cause = None, now, None
                self._ramp_until = now + _RAMP_SECONDS
                self._outcomes = OutcomeWindow(self._settings.window)

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
        self.abandon(started_at)
        settings = self._settings
        self.count_successes(now)
        self._consecutive += 1
        self._outcomes.add(now, 1, failed=1)
        total, failed = self._outcomes.count(now)
        limit, is_confirmed = settings.consecutive_failures, False
        if self._has_just_recovered(now):
            limit = min(limit, _FLAPPING_FAILURES)
            # Doubts without a pause are due to an earlier failure.
            is_confirmed = (
                self._is_doubtful and not self._full_pause and started_at > self._doubted_at
            )
            self._is_doubtful, self._doubted_at = True, now
        if (
            is_confirmed
            or self._consecutive >= limit
            or (total >= settings.min_responses and failed >= settings.failure_share * total)
        ):
            self._open(now, cause)

    def refuse(self, now: float, started_at: float, retry_after: float | None) -> None:
        """Record a refusal for lack of capacity; `retry_after` is the replica's own, in seconds."""
        self.abandon(started_at)
        pause = min(retry_after or 0.0, _MAX_FULL_PAUSE)
        if not self._full_pause or started_at >= self._doubted_at:  # not sent before the last one
            self._full_pause = min(max(2 * self._full_pause, _FIRST_FULL_PAUSE), _MAX_FULL_PAUSE)
            pause = max(self._full_pause, pause)
        self._is_doubtful, self._doubted_at = True, now
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
        """Whether a request that began at `started_at` is one of `trials`."""
        return self._open_until <= started_at < self._ramp_until

    def _find_limit(self, now: float) -> float:
        """Return how many requests may be under way at once while it is closed."""
        if now >= self._ramp_until or self._closed_at is None:
            return math.inf
        return float(self._settings.trials * 2 ** ((now - self._closed_at) / _DOUBLING_SECONDS))

    def _end_doubt(self, started_at: float) -> None:
        """End the doubts about the replica if the request was sent after they began."""
        if started_at > self._doubted_at:
            self._is_doubtful = False
            self._full_pause = self._full_until = 0.0

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
        self._ramp_until = math.inf
        self._consecutive = self.trials = self._trials_passed = self._signs = 0
        self._is_doubtful = False  # trials are let through one by one anyway
        self.cause = cause
        self.trips += 1
