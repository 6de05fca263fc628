"""Observations of a model's replicas: outcomes, retries and recent latencies."""

from collections import deque
from typing import Final

import structlog

from maxgate.upstream.breaker import CircuitBreaker
from maxgate.upstream.replica import Replica
from maxgate.upstream.retry_budget import RetryBudget
from maxgate.upstream.settings import FailoverSettings, SlownessSettings

_SAMPLES: Final = 512
_REPLICA_SAMPLES: Final = 64
_REFRESH_SECONDS: Final = 0.5
_MAX_AGE: Final = 120.0

_log = structlog.get_logger()


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


class ModelLatency:
    """Latencies of one model by replica. A latency is the time to the first token.

    Responses that are not streamed have a window of their own: their time per token.
    """

    def __init__(self, settings: SlownessSettings) -> None:
        self._settings = settings
        self._windows = {True: LatencyWindow(_SAMPLES), False: LatencyWindow(_SAMPLES)}
        self._by_replica: dict[tuple[str, bool], LatencyWindow] = {}

    def add(self, replica: str, now: float, seconds: float, *, stream: bool) -> None:
        """Add the latency of a response of the replica with this id."""
        self._windows[stream].add(now, seconds)
        window = self._by_replica.get((replica, stream))
        if window is None:
            window = self._by_replica[replica, stream] = LatencyWindow(_REPLICA_SAMPLES)
        window.add(now, seconds)

    def max_wait(self, now: float, *, stream: bool, tokens: int | None) -> float | None:
        """Return the time after which a response is overdue; None if that is not known.

        `tokens` limits a response that is not streamed.
        """
        settings = self._settings
        count, _, p99 = self._windows[stream].summarize(now)
        if not settings.deadline_factor or count < settings.min_samples:
            return None
        if stream:
            return settings.deadline_factor * p99
        return None if tokens is None else settings.deadline_factor * p99 * tokens

    def is_outlier(self, replica: str, now: float, *, stream: bool) -> bool:
        """Whether the replica's median is far above the median of each of its peers."""
        settings = self._settings
        window = self._by_replica.get((replica, stream))
        if window is None or not settings.outlier_factor:
            return False
        count, median, _ = window.summarize(now)
        if count < settings.min_replica_samples:
            return False
        peers = [
            other.summarize(now)
            for (name, kind), other in self._by_replica.items()
            if kind is stream and name != replica
        ]
        medians = [peer[1] for peer in peers if peer[0] >= settings.min_replica_samples]
        slowest = max(medians, default=float("inf"))
        return median > settings.outlier_factor * max(slowest, settings.min_latency)

    def forget(self, replica: str) -> None:
        """Drop the samples of a replica that has been ejected or removed."""
        for kind in (True, False):
            self._by_replica.pop((replica, kind), None)


class ModelTraffic:
    """What the pool has observed of one model's replicas."""

    def __init__(self, settings: FailoverSettings) -> None:
        self._settings = settings
        self._breakers: dict[Replica, CircuitBreaker] = {}
        self.budget = RetryBudget(settings.retries)
        self.latency = ModelLatency(settings.slowness)

    def breaker(self, replica: Replica) -> CircuitBreaker:
        """Return the circuit breaker of the replica."""
        breaker = self._breakers.get(replica)
        if breaker is None:
            breaker = self._breakers[replica] = CircuitBreaker(self._settings.breaker)
        return breaker

    def eject_if_slow(self, replica: Replica, peers: int, now: float, *, stream: bool) -> None:
        """Open the breaker of a replica that is far slower than its peers."""
        if not self.latency.is_outlier(replica.url, now, stream=stream):
            return
        slow = sum([b.cause == "slow" for b in self._breakers.values()])
        if slow + 1 <= self._settings.slowness.max_ejected_share * peers:
            self.latency.forget(replica.url)
            self.breaker(replica).eject(now, "slow")
            _log.warning("engine is far slower than its peers", engine=replica.url)
