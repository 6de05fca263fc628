"""Observations of a model's replicas: outcomes, retries and recent latencies."""

from collections import Counter
from collections.abc import Sequence
from typing import Final, Protocol

import structlog

from maxgate.upstream.breaker import SLOW, SLOW_TOKENS, CircuitBreaker
from maxgate.upstream.latency import LatencyKind, LatencyWindow, SentAttempt, StreamPace
from maxgate.upstream.replica import Replica
from maxgate.upstream.retry_budget import RetryBudget
from maxgate.upstream.settings import FailoverSettings

_SAMPLES: Final = 512
_REPLICA_SAMPLES: Final = 16
_SAMPLE_INTERVAL: Final = 0.001
_KINDS: Final[tuple[LatencyKind, ...]] = ("ttft", "tpot", "itl")
# Interval at which running streams are measured, and how many of a replica count each time: a long
# prompt that stops all of its streams for a second does not fill its window.
_PACE_INTERVAL: Final = 1.0
_PACE_SAMPLES: Final = 4

_log = structlog.get_logger("upstream")


class Waiting(SentAttempt, Protocol):
    """An attempt that waits for its first token, or for the whole of a response.

    `kind` is the latency that ends its wait. `tokens` multiplies what is usual: 1 for a stream, the
    limit of a whole response, 0 if that is not known.
    """

    kind: LatencyKind
    tokens: int

    def end_wait(self) -> None:
        """Move the call to another replica, if there is one and the retry is allowed."""
        ...


class ModelTraffic:
    """The observations of one model's replicas.

    `waiting` are the attempts without a first token, `streams` those after it. `restricted` is set
    when a breaker opens or a replica is full: only then do breakers have to be asked. Latencies of
    first tokens and plain responses before `next_sample` are not kept.
    """

    def __init__(
        self, settings: FailoverSettings, model: str = "", budget: RetryBudget | None = None
    ) -> None:
        self._settings = settings
        self._model = model
        self._breakers: dict[Replica, CircuitBreaker] = {}
        self._windows: dict[LatencyKind, LatencyWindow] = {
            "ttft": LatencyWindow(_SAMPLES),
            "tpot": LatencyWindow(_SAMPLES),
        }
        self._durations = LatencyWindow(_SAMPLES)
        self._by_replica: dict[tuple[Replica, LatencyKind], LatencyWindow] = {}
        self.budget = budget or RetryBudget(settings.retries)
        self.waiting: set[Waiting] = set()
        self.streams: set[StreamPace] = set()
        self.restricted = False
        self.next_sample = 0.0
        self._next_pace = 0.0

    def breaker(self, replica: Replica) -> CircuitBreaker:
        """Return the circuit breaker of the replica."""
        breaker = self._breakers.get(replica)
        if breaker is None:
            breaker = self._breakers[replica] = CircuitBreaker(self._settings.breaker)
            replica.breakers[self._model] = breaker
        return breaker

    def filter_allowed(self, replicas: Sequence[Replica], now: float) -> list[Replica]:
        """Return the replicas that may get a request; clears `restricted` if it is over.

        Without any other, those that have just recovered get more than their limit.
        """
        self.restricted = any(breaker.is_restricted(now) for breaker in self._breakers.values())
        breakers = [(replica, self.breaker(replica)) for replica in replicas]
        return [replica for replica, breaker in breakers if breaker.allows(now)] or [
            replica for replica, breaker in breakers if breaker.allows(now, above_limit=True)
        ]

    def record_latency(
        self, kind: LatencyKind, attempt: SentAttempt, now: float, seconds: float
    ) -> None:
        """Record a latency, as a sample or as the outcome of a trial of a slow replica."""
        replica, started_at = attempt.replica, attempt.started_at
        breaker = self._breakers.get(replica)
        if breaker is None:  # the replica has been removed
            return
        if breaker.opened_at is None:
            self.add_latency(kind, replica, now, seconds)
        elif breaker.cause in {SLOW, SLOW_TOKENS} and breaker.is_trial(started_at):
            if self.is_slow(kind, replica, now, seconds):
                breaker.fail(now, started_at, breaker.cause)
            elif kind == "itl":
                breaker.note_recovery(started_at)

    def add_latency(self, kind: LatencyKind, replica: Replica, now: float, seconds: float) -> None:
        """Add a sample; of first tokens and plain responses, at most 1,000 a second are kept."""
        if kind != "itl":
            if now < self.next_sample:
                return
            self.next_sample = now + _SAMPLE_INTERVAL
            self._windows[kind].add(now, seconds)
        window = self._by_replica.get((replica, kind))
        if window is None:
            window = self._by_replica[replica, kind] = LatencyWindow(_REPLICA_SAMPLES)
        window.add(now, seconds)

    def count_successes(self, now: float) -> None:
        """Let breakers count the complete responses since the last call."""
        for breaker in self._breakers.values():
            breaker.count_successes(now)

    def measure_streams(self, now: float) -> None:
        """Record the pace of running streams, a few of each replica every second."""
        if now < self._next_pace:
            return
        self._next_pace = now + _PACE_INTERVAL
        counts: Counter[Replica] = Counter()
        for stream in self.streams:
            replica, seconds = stream.replica, stream.measure(now)
            breaker = self._breakers.get(replica)
            if seconds is None or breaker is None:
                continue
            counts[replica] += breaker.opened_at is None  # trials count without a limit
            if counts[replica] <= _PACE_SAMPLES:
                self.record_latency("itl", stream, now, seconds)

    def end_stream(self, stream: StreamPace, now: float, *, failed: bool) -> None:
        """Record the pace of a stream that has ended; that of one that failed says nothing."""
        self.streams.discard(stream)
        if not failed and (seconds := stream.finish(now)) is not None:
            self.record_latency("itl", stream, now, seconds)

    def add_duration(self, now: float, seconds: float) -> None:
        """Add the duration of a whole response that was not streamed."""
        self._durations.add(now, seconds)

    def interrupt_overdue(self, now: float) -> None:
        """Move requests that have waited far longer than is usual to another replica."""
        settings = self._settings.slowness
        for kind, window in self._windows.items():
            count, _, p99 = window.summarize(now)
            if not settings.deadline_factor or count < settings.min_samples:
                continue
            for attempt in [a for a in self.waiting if a.kind == kind and a.tokens]:
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
        for attempt in [a for a in self.waiting if a.kind == "tpot"]:
            is_silent = attempt.replica.activity.at < attempt.started_at
            if is_silent and now - attempt.started_at > limit:
                attempt.end_wait()

    def eject_slow(self, now: float) -> None:
        """Open the breakers of replicas that are far slower than all of their peers.

        The median decides. Requests that still wait count as soon as they have waited too long, and
        enough of them suffice. If those of other replicas do so as well, it is an overload.
        """
        minimum = self._settings.slowness.min_replica_samples
        for kind in _KINDS:
            limits = self._find_limits(kind, now)
            late = dict.fromkeys(limits, 0)
            for attempt in self.waiting:
                replica = attempt.replica
                if attempt.kind == kind and attempt.tokens and replica in limits:
                    late[replica] += now - attempt.started_at > limits[replica] * attempt.tokens
            for replica, limit in limits.items():
                window = self._by_replica[replica, kind]
                most = max([late[other] for other in late if other is not replica], default=0)
                waiting = late[replica] if late[replica] > 2 * most else 0
                slow = window.count_above(limit, now) + waiting
                if waiting >= minimum or 2 * slow > window.summarize(now)[0] + waiting:
                    self._eject(replica, now, kind)
                    break  # the limits of the others have changed

    def is_slow(self, kind: LatencyKind, replica: Replica, now: float, seconds: float) -> bool:
        """Whether a single latency of the replica would get it ejected."""
        return seconds > self._find_limits(kind, now, also=replica)[replica]

    def _find_limits(
        self, kind: LatencyKind, now: float, *, also: Replica | None = None
    ) -> dict[Replica, float]:
        """Return the latency above which each replica, or `also` another, is far too slow."""
        settings = self._settings.slowness
        # A token takes far less time than the first one of a stream.
        floor = settings.min_latency if kind == "ttft" else settings.min_latency / 10
        medians = {}
        for (replica, of_kind), window in self._by_replica.items():
            count, median, _ = window.summarize(now)
            if of_kind == kind and count >= settings.min_replica_samples:
                medians[replica] = max(median, floor)
        limits = {}
        for replica in [*medians, *([also] if also else [])]:
            peers = [
                median * (_compare_loads(replica, peer) if kind == "itl" else 1.0)
                for peer, median in medians.items()
                if peer is not replica
            ]
            limits[replica] = (
                settings.outlier_factor * max(peers)
                if peers and settings.outlier_factor
                else float("inf")
            )
        return limits

    def _eject(self, replica: Replica, now: float, kind: LatencyKind) -> None:
        breaker = self.breaker(replica)
        slow = sum([b.cause in {SLOW, SLOW_TOKENS} for b in self._breakers.values()])
        if (
            breaker.opened_at is not None
            or slow + 1 > self._settings.slowness.max_ejected_share * len(self._breakers)
        ):
            return
        breaker.eject(now, SLOW_TOKENS if kind == "itl" else SLOW)
        self.restricted = True
        self.forget_latencies(replica)
        _log.warning("engine is far slower than its peers", engine=replica.url, latency=kind)

    def forget(self, replica: Replica) -> None:
        """Drop everything about a replica that has been removed."""
        self._breakers.pop(replica, None)
        self.forget_latencies(replica)

    def forget_latencies(self, replica: Replica) -> None:
        """Drop the latencies of a replica that has been ejected or removed."""
        for kind in _KINDS:
            self._by_replica.pop((replica, kind), None)


def _compare_loads(replica: Replica, peer: Replica) -> float:
    """Return how many times slower than its peer a replica may be because of its load, at least 1.

    Twice as many streams at once take at most twice as long per token.
    """
    load = replica.in_flight + replica.engine_load + 1
    return max(load / (peer.in_flight + peer.engine_load + 1), 1.0)
