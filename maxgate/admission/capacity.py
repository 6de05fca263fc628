"""The number of requests that the engines of a model can work on at a time.

Without a fixed number it is estimated. By Little's law, engines that are busy but have no queue
work on (tokens per second) x (seconds per token) requests. Throughput is the highest of the last
seconds, time per token the lowest of the last minutes, as in BBR (Cardwell et al., 2016). Larger
batches make each token slower without any queue, so a multiple of that is allowed.

Engines that report their queue are limited by it as well: the number running, and a few more.
"""

import sys
from collections import deque
from typing import Final, NamedTuple

UNLIMITED: Final = sys.maxsize
MIN_SLOTS: Final = 16
"""Slots per engine below which an estimate never falls."""
_INFLATION: Final = 2.0
"""Multiple of the lowest time per token that shows a queue at the engines."""
_MIN_RESPONSES: Final = 4
_TOLERANCE: Final = 4.0  # multiple of the lowest time per token
_MAX_TOLERANCE: Final = 64.0
_WINDOW_SECONDS: Final = 0.5
_WINDOW_RESPONSES: Final = 16
_MAX_WINDOW: Final = 10.0
_THROUGHPUT_AGE: Final = 10.0
_LATENCY_AGE: Final = 120.0
# While requests wait, a short time with half of the slots shows the time per token without a queue.
_PROBE_INTERVAL: Final = 10.0
_GROWTH: Final = 1.25
_GROWTH_INTERVAL: Final = 1.0  # about that of the engines' metrics
_MAX_GROWTH_INTERVAL: Final = 8.0  # while growth leads to a queue each time
# One more than an engine works on, and a tenth, keep it busy between two requests.
_SPARE_SHARE: Final = 0.1
_SPARE_OF_ALL: Final = 11


class EngineLoad(NamedTuple):
    """The engines of a model that get requests; `queued` and `running` by their own metrics.

    Both are None unless every engine has fresh metrics.
    """

    engines: int
    running: int | None = None
    queued: int | None = None


class _Window(NamedTuple):
    ended_at: float
    throughput: float  # tokens per second
    token_seconds: float
    response_seconds: float


def add_spare(slots: int) -> int:
    """Return the slots that keep engines busy which work on this number of requests."""
    return slots + max(1, int(slots * _SPARE_SHARE))


def remove_spare(slots: int) -> int:
    """Return the number for which `add_spare` returns this one; at least one."""
    return max(1, slots - max(1, slots // _SPARE_OF_ALL))


class AdaptiveLimit:
    """Estimates the slots of a model from its responses and from the queue of its engines.

    Callers add each response to `responses`, its weighted tokens to `tokens`, and the time for
    which it held its slot to `seconds`; `others` are tokens that other processes served. Times are
    in seconds of a monotonic clock. The limit is UNLIMITED until there is an estimate.
    `is_estimated` tells it from one that the engines' own queue sets.
    """

    def __init__(self, *, estimates: bool = False) -> None:
        """Without `estimates`, only the queue of the engines limits."""
        self._estimates = estimates
        self._windows: deque[_Window] = deque()
        self._began: float | None = None
        self.responses = 0
        self.tokens = 0.0
        self.others = 0.0
        self.seconds = 0.0
        self.is_estimated = False
        self._reported: float | None = None
        self._engines = 0
        self._most_running = 0
        self._growth_interval = _GROWTH_INTERVAL
        self._has_grown = False
        self._tolerance = _TOLERANCE
        self._grown_at = float("-inf")
        self._next_probe = 0.0
        self._full_since: float | None = None
        self._minimum = MIN_SLOTS

    @property
    def batch(self) -> int | None:
        """The number of requests that engines with metrics work on at a time, if it is known."""
        if self._reported is None:
            return None
        return max(1, min(remove_spare(int(self._reported)), self._most_running))

    def update(self, now: float, load: EngineLoad, *, is_full: bool, waiting: int) -> int:
        """Return the limit; called a few times a second.

        `waiting` is the number of waiting requests of this process, `is_full` whether it uses all
        of its slots.
        """
        self._end_window(now)
        if load.queued is None or load.running is None:
            self._reported, self._tolerance = None, _TOLERANCE
        else:
            self._note_running(load.engines, load.running)
            if load.queued > max(1, int(load.running * _SPARE_SHARE)):
                self._shrink(add_spare(max(load.running, load.engines)))
            elif self._may_grow(load.running, waiting > 0, is_full=is_full):
                self._grow_reported(now)
        limit = self._estimate(now, load.engines, is_full=waiting > 0)
        self.is_estimated = self._reported is None or limit < self._reported
        return limit if self._reported is None else min(limit, int(self._reported))

    def adopt(self, slots: int) -> None:
        """Start with the limit of another process, instead of none."""
        if self._reported is None:
            self._reported = slots

    def _note_running(self, engines: int, running: int) -> None:
        if engines != self._engines:
            self._engines, self._most_running = engines, 0
        self._most_running = max(self._most_running, running)

    def _shrink(self, slots: int) -> None:
        self._reported, self._tolerance = slots, _TOLERANCE
        if self._has_grown:
            self._growth_interval = min(2 * self._growth_interval, _MAX_GROWTH_INTERVAL)
        self._has_grown = False

    def _may_grow(self, running: int, is_waiting: bool, *, is_full: bool) -> bool:
        if self._reported is None:
            return is_waiting
        slots = remove_spare(int(self._reported))
        # Processes that share the engines may all have free slots, as in a reserve for priority.
        return (is_waiting and (is_full or slots < self._most_running)) or running >= slots

    def _grow_reported(self, now: float) -> None:
        if now - self._grown_at < self._growth_interval:
            return
        if self._has_grown:  # and no queue came of it
            self._growth_interval = _GROWTH_INTERVAL
        self._grown_at, self._has_grown = now, True
        self._tolerance = min(self._tolerance * _GROWTH, _MAX_TOLERANCE)
        if self._reported is not None:
            self._reported = max(self._reported * _GROWTH, self._reported + 1)

    def _end_window(self, now: float) -> None:
        if self._began is None:
            self._began = now
            return
        elapsed = now - self._began
        is_over = elapsed >= _WINDOW_SECONDS and self.responses >= _WINDOW_RESPONSES
        if not is_over and elapsed < _MAX_WINDOW:
            return
        if is_over and self.tokens:
            throughput = (self.tokens + self.others) / elapsed
            self._windows.append(
                _Window(now, throughput, self.seconds / self.tokens, self.seconds / self.responses)
            )
        self._began, self.responses = now, 0
        self.tokens = self.others = self.seconds = 0.0
        while self._windows and now - self._windows[0].ended_at > _LATENCY_AGE:
            self._windows.popleft()

    def _estimate(self, now: float, engines: int, *, is_full: bool) -> int:
        if not self._windows or not self._estimates:
            return UNLIMITED
        recent = [w.throughput for w in self._windows if now - w.ended_at <= _THROUGHPUT_AGE]
        if not recent:
            return UNLIMITED
        fastest = min(self._windows, key=lambda window: window.token_seconds)
        self._grow(now, fastest, is_full=is_full)
        limit = int(self._tolerance * max(recent) * fastest.token_seconds)
        limit = max(limit, self._minimum * max(engines, 1))
        if is_full:
            if now >= self._next_probe + _PROBE_INTERVAL:
                self._next_probe = now
            if now - self._next_probe < _WINDOW_SECONDS:
                return max(limit // 2, MIN_SLOTS * max(engines, 1) // 2)
        return limit

    def _grow(self, now: float, fastest: _Window, *, is_full: bool) -> None:
        """Double the minimum while requests wait and responses are as fast as ever.

        Throughput that was low because there were few requests says nothing about the engines.
        """
        slowest = _INFLATION * fastest.token_seconds * self.tokens
        if self.responses >= _MIN_RESPONSES and self.seconds > slowest:
            self._full_since, self._minimum = None, MIN_SLOTS
        elif not is_full:
            self._full_since = None
        elif self._full_since is None:
            self._full_since = now
        elif now - self._full_since >= _INFLATION * fastest.response_seconds:
            self._full_since, self._minimum = now, 2 * self._minimum
