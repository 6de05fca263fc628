"""Latencies of engines: recent samples, and the pace of streams that are running."""

from collections import deque
from typing import Final, Literal, Protocol

from maxgate.upstream.replica import Replica

LatencyKind = Literal["ttft", "tpot", "itl"]
"""Time to first token of a stream; time per output token of a plain response; mean inter-token
latency of a stream after its first token."""

_REFRESH_SECONDS: Final = 0.5
_MAX_AGE: Final = 120.0
# A part of a stream that is shorter and has fewer tokens says little about its pace.
_MIN_PACE_SECONDS: Final = 0.5
_MIN_PACE_TOKENS: Final = 4


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


class SentAttempt(Protocol):
    """An attempt that was sent to `replica` at the loop's time `started_at`."""

    replica: Replica
    started_at: float


class TokenCounter(Protocol):
    """Counts the tokens of a stream while it is read."""

    completion_tokens: int


class StreamBody(Protocol):
    """The body of a stream."""

    @property
    def is_waiting(self) -> bool:
        """Whether the reader waits for the engine's next piece."""
        ...


class StreamPace:
    """The pace of a stream from its first token on, measured part by part.

    It uses the tokens that `counter` counts in any case, so that a chunk costs nothing more. Parts
    in which the reader does not wait for the engine, because the client is slow, do not count.
    """

    __slots__ = (
        "_body",
        "_counter",
        "_is_held_up",
        "_last",
        "_since",
        "_tokens",
        "replica",
        "started_at",
    )

    def __init__(
        self, attempt: SentAttempt, counter: TokenCounter, body: StreamBody, now: float
    ) -> None:
        self.replica = attempt.replica
        self.started_at = attempt.started_at
        self._counter = counter
        self._body = body
        self._is_held_up = False
        self._last: float | None = None
        self._since = now
        self._tokens = counter.completion_tokens

    def measure(self, now: float) -> float | None:
        """Return the seconds per token since the last measurement, None if they are not known.

        Without a token since, it is the time so far, and the part goes on.
        """
        count = self._counter.completion_tokens
        seconds, tokens = now - self._since, count - self._tokens
        self._is_held_up = not self._body.is_waiting
        if self._is_held_up:
            self._since, self._tokens, self._last = now, count, None
            return None
        if seconds < _MIN_PACE_SECONDS:
            return None
        self._last = seconds / max(tokens, 1)
        if tokens:
            self._since, self._tokens = now, count
        return self._last

    def finish(self, now: float) -> float | None:
        """Return the seconds per token of the last part; None if they are not known.

        If that is too short, it is the part before.
        """
        seconds, tokens = now - self._since, self._counter.completion_tokens - self._tokens
        if self._is_held_up:
            return None
        if seconds < _MIN_PACE_SECONDS and tokens < _MIN_PACE_TOKENS:
            return self._last
        return seconds / tokens if tokens else None
