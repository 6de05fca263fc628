"""Observations of a model's replicas: outcomes, retries and recent latencies."""

from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

import structlog

from maxgate.upstream.breaker import CircuitBreaker
from maxgate.upstream.replica import Replica
from maxgate.upstream.retry_budget import RetryBudget
from maxgate.upstream.settings import FailoverSettings

_SAMPLES: Final = 512
_REPLICA_SAMPLES: Final = 16
_REFRESH_SECONDS: Final = 0.5
_SAMPLE_INTERVAL: Final = 0.001
_MAX_AGE: Final = 120.0
SLOW: Final = "slow"
"""Cause of a breaker that is open because its replica is far slower than its peers."""

_log = structlog.get_logger()


class Waiting(Protocol):
    """An attempt that waits for its first token, or for the whole of a response.

    `tokens` multiplies the latency that is usual: 1 for a stream, the limit of a whole response, 0
    if that is not known.
    """

    replica: Replica
    started_at: float
    stream: bool
    tokens: int

    def end_wait(self) -> None:
        """Move the call to another replica, if there is one and the retry is allowed."""
        ...


class LatencyWindow:
    """The latest samples of one replica or of a model; times and samples are in seconds."""

    __slots__ = ("_computed_at", "_percentiles", "_samples")

    def __init__(self, size: int) -> None:
        self._samples: deque[tuple[float, float]] = deque(maxlen=size)
        self._computed_at = float("-inf")
        self._percentiles: tuple[int, float, float] = (0, 0.0, 0.0)

    def add(self, now: float, seconds: float) -> None:
        """Add a sample."""
        self._samples.append((now, seconds))

    def count_above(self, seconds: float, now: float) -> int:
        """Return the number of recent samples that are longer."""
        return sum([value > seconds and now - at < _MAX_AGE for at, value in self._samples])

    def summarize(self, now: float) -> tuple[int, float, float]:
        """Return the number of recent samples, their median and their 99th percentile.

        The values may be half a second old.
        """
        if now - self._computed_at >= _REFRESH_SECONDS:
            values = sorted(value for at, value in self._samples if now - at < _MAX_AGE)
            count = len(values)
            self._percentiles = (
                (count, values[count // 2], values[-1 - count // 100]) if count else (0, 0.0, 0.0)
            )
            self._computed_at = now
        return self._percentiles


class ModelTraffic:
    """What the pool has observed of one model's replicas.

    A latency is the time to the first token; of a response that is not streamed, it is the time per
    token. `waiting` are the attempts without a first token. `restricted` is set when a breaker
    opens or a replica is full: only then do breakers have to be asked. Latencies before
    `next_sample` are not kept.
    """

    def __init__(
        self, settings: FailoverSettings, model: str = "", budget: RetryBudget | None = None
    ) -> None:
        self._settings = settings
        self._model = model
        self._breakers: dict[Replica, CircuitBreaker] = {}
        self._windows = {True: LatencyWindow(_SAMPLES), False: LatencyWindow(_SAMPLES)}
        self._durations = LatencyWindow(_SAMPLES)
        self._by_replica: dict[tuple[Replica, bool], LatencyWindow] = {}
        self.budget = budget or RetryBudget(settings.retries)
        self.waiting: set[Waiting] = set()
        self.restricted = False
        self.next_sample = 0.0

    def breaker(self, replica: Replica) -> CircuitBreaker:
        """Return the circuit breaker of the replica."""
        breaker = self._breakers.get(replica)
        if breaker is None:
            breaker = self._breakers[replica] = CircuitBreaker(self._settings.breaker)
            replica.breakers[self._model] = breaker
        return breaker

    def filter_allowed(self, replicas: Sequence[Replica], now: float) -> list[Replica]:
        """Return the replicas that may get a request; clears `restricted` if it is over."""
        self.restricted = any(breaker.is_restricted(now) for breaker in self._breakers.values())
        return [replica for replica in replicas if self.breaker(replica).allows(now)]

    def add_latency(self, replica: Replica, now: float, seconds: float, *, stream: bool) -> None:
        """Add the latency of a response; at most 1,000 a second are kept."""
        if now < self.next_sample or replica not in self._breakers:
            return  # a replica without a breaker has been removed
        self.next_sample = now + _SAMPLE_INTERVAL
        self._windows[stream].add(now, seconds)
        window = self._by_replica.get((replica, stream))
        if window is None:
            window = self._by_replica[replica, stream] = LatencyWindow(_REPLICA_SAMPLES)
        window.add(now, seconds)

    def count_successes(self, now: float) -> None:
        """Let breakers count the complete responses since the last call."""
        for breaker in self._breakers.values():
            breaker.count_successes(now)

    def add_duration(self, now: float, seconds: float) -> None:
        """Add the duration of a whole response that was not streamed."""
        self._durations.add(now, seconds)

    def interrupt_overdue(self, now: float) -> None:
        """Move requests that have waited far longer than is usual to another replica."""
        settings = self._settings.slowness
        for stream, window in self._windows.items():
            count, _, p99 = window.summarize(now)
            if not settings.deadline_factor or count < settings.min_samples:
                continue
            for attempt in [a for a in self.waiting if a.stream is stream and a.tokens]:
                limit = max(settings.deadline_factor * p99 * attempt.tokens, settings.min_deadline)
                if now - attempt.started_at > limit:
                    attempt.end_wait()
        self._interrupt_silent(now)

    def _interrupt_silent(self, now: float) -> None:
        """Move whole responses whose replica has given no sign of life since they were requested.

        Limits of their length are often far too high to find a replica that hangs.
        """
        settings = self._settings.slowness
        count, _, p99 = self._durations.summarize(now)
        if not settings.deadline_factor or count < settings.min_samples:
            return
        limit = max(settings.deadline_factor * p99, settings.min_deadline)
        for attempt in [a for a in self.waiting if not a.stream]:
            is_silent = attempt.replica.activity.at < attempt.started_at
            if is_silent and now - attempt.started_at > limit:
                attempt.end_wait()

    def eject_slow(self, now: float) -> None:
        """Open the breakers of replicas that are far slower than all of their peers.

        The median decides. Requests that still wait count as soon as they have waited too long, and
        enough of them suffice. If those of other replicas do so as well, it is an overload.
        """
        minimum = self._settings.slowness.min_replica_samples
        for stream in self._windows:
            limits = self._find_limits(now, stream=stream)
            late = dict.fromkeys(limits, 0)
            for attempt in self.waiting:
                replica = attempt.replica
                if attempt.stream is stream and attempt.tokens and replica in limits:
                    late[replica] += now - attempt.started_at > limits[replica] * attempt.tokens
            for replica, limit in limits.items():
                window = self._by_replica[replica, stream]
                most = max([late[other] for other in late if other is not replica], default=0)
                waiting = late[replica] if late[replica] > 2 * most else 0
                slow = window.count_above(limit, now) + waiting
                if waiting >= minimum or 2 * slow > window.summarize(now)[0] + waiting:
                    self._eject(replica, now)
                    break  # the limits of the others have changed

    def is_slow(self, replica: Replica, now: float, seconds: float, *, stream: bool) -> bool:
        """Whether a single latency of the replica would get it ejected."""
        return seconds > self._find_limits(now, stream=stream, also=replica)[replica]

    def _find_limits(
        self, now: float, *, stream: bool, also: Replica | None = None
    ) -> dict[Replica, float]:
        """Return the latency above which each replica, or `also` another, is far too slow."""
        settings = self._settings.slowness
        medians = {}
        for (replica, kind), window in self._by_replica.items():
            count, median, _ = window.summarize(now)
            if kind is stream and count >= settings.min_replica_samples:
                medians[replica] = median
        # A token takes far less time than the first one of a stream.
        floor = settings.min_latency if stream else settings.min_latency / 10
        limits = {}
        for replica in [*medians, *([also] if also else [])]:
            others = [median for other, median in medians.items() if other is not replica]
            limits[replica] = (
                settings.outlier_factor * max(*others, floor)
                if others and settings.outlier_factor
                else float("inf")
            )
        return limits

    def _eject(self, replica: Replica, now: float) -> None:
        breaker = self.breaker(replica)
        slow = sum([breaker.cause == SLOW for breaker in self._breakers.values()])
        if (
            breaker.opened_at is not None
            or slow + 1 > self._settings.slowness.max_ejected_share * len(self._breakers)
        ):
            return
        breaker.eject(now, SLOW)
        self.restricted = True
        self.forget_latencies(replica)
        _log.warning("engine is far slower than its peers", engine=replica.url)

    def forget(self, replica: Replica) -> None:
        """Drop everything about a replica that has been removed."""
        self._breakers.pop(replica, None)
        self.forget_latencies(replica)

    def forget_latencies(self, replica: Replica) -> None:
        """Drop the latencies of a replica that has been ejected or removed."""
        for stream in self._windows:
            self._by_replica.pop((replica, stream), None)
