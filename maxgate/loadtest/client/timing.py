"""Exact wake-ups, arrival timestamps with their uncertainty, and the client's own lag.

Event loops count in whole milliseconds: a schedule of 2,000 departures a second would leave in
bursts of two. On Linux, timerfd_create(2) wakes the process with microsecond resolution.
"""

import asyncio
import ctypes
import math
import os
import sys
from array import array
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import numpy as np
from typing_extensions import override

from maxgate.loadtest.messages import Lag

_CLOCK_MONOTONIC: Final = 1  # the clock of time.perf_counter on Linux
_NONBLOCK_CLOEXEC: Final = 0o4000 | 0o2000000
_ABSOLUTE: Final = 1


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class Alarm(Protocol):
    """Calls back once for each time it was set; setting it again moves it."""

    def set(self, when: float) -> None:
        """Call back at this time of the monotonic clock, or at once if it has passed."""
        ...

    def close(self) -> None:
        """Cancel the alarm for good."""
        ...


class _TimerFdAlarm(Alarm):
    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._loop, self._callback = loop, callback
        self._spec = _Itimerspec()
        self._spec_pointer = ctypes.byref(self._spec)
        loop.add_reader(self._fd, self._on_readable)

    @override
    def set(self, when: float) -> None:
        nanoseconds = max(int(when * 1e9), 1)  # 0 would disarm the timer
        self._spec.value.seconds, self._spec.value.nanoseconds = divmod(nanoseconds, 10**9)
        self._libc.timerfd_settime(self._fd, _ABSOLUTE, self._spec_pointer, None)

    @override
    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _on_readable(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return  # the alarm was moved in the meantime
        self._callback()


class _LoopAlarm(Alarm):
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        callback: Callable[[], None],
        monotonic: Callable[[], float],
    ) -> None:
        self._loop, self._callback, self._monotonic = loop, callback, monotonic
        self._timer: asyncio.TimerHandle | None = None

    @override
    def set(self, when: float) -> None:
        self.close()
        self._timer = self._loop.call_later(max(0.0, when - self._monotonic()), self._callback)

    @override
    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


def create_alarm(
    loop: asyncio.AbstractEventLoop, callback: Callable[[], None], monotonic: Callable[[], float]
) -> Alarm:
    """The most exact alarm of this operating system."""
    if sys.platform == "linux":
        return _TimerFdAlarm(loop, callback)
    return _LoopAlarm(loop, callback, monotonic)


_IDLE_SECONDS: Final = 0.0001
"""An event loop idle for longer than this was asleep, and the arriving data woke it."""


class Receiver(Protocol):
    """Takes the data of one connection."""

    def take(self, data: bytes | None, at: float, uncertainty: float) -> None:
        """Process data stamped `at`, which may have arrived up to `uncertainty` seconds earlier.

        None marks the end of the connection.
        """
        ...


class Inbox:
    """Stamps data on arrival and delivers it afterwards, so that parsing delays no timestamp."""

    def __init__(self, loop: asyncio.AbstractEventLoop, monotonic: Callable[[], float]) -> None:
        self._call_soon = loop.call_soon
        self._monotonic = monotonic
        self._waiting: list[tuple[Receiver, bytes | None, float, float]] = []
        # Start of this batch, end of the previous batch, and the earliest time at which data of
        # this batch may have arrived.
        self._batch_start = self._last_batch_end = self._earliest = 0.0

    def put(self, receiver: Receiver, data: bytes | None) -> None:
        """Stamp the data now and deliver it in the next turn of the event loop."""
        now = self._monotonic()
        if not self._waiting:
            self._call_soon(self._deliver)
            was_idle = now - self._last_batch_end > _IDLE_SECONDS
            self._earliest = now if was_idle else self._batch_start
            self._batch_start = now
        self._waiting.append((receiver, data, now, now - self._earliest))

    def _deliver(self) -> None:
        waiting, self._waiting = self._waiting, []
        for receiver, data, at, uncertainty in waiting:
            receiver.take(data, at, uncertainty)
        self._last_batch_end = self._monotonic()


_PROBE_INTERVAL: Final = 0.0019
"""In step with no whole millisecond, and short enough to estimate P99.95 within seconds."""


class LagProbe:
    """Measures how late this process wakes up, from its creation until `stop`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lags = array("d")
        self._alarm = create_alarm(loop, self._on_alarm, monotonic)
        self._due = monotonic() + _PROBE_INTERVAL
        self._alarm.set(self._due)

    def stop(self) -> Lag:
        """The lag in seconds; all zero if the alarm never fired."""
        self._alarm.close()
        return summarize_lag(self._lags)

    def _on_alarm(self) -> None:
        lags = expand_pause(self._due, self._monotonic(), _PROBE_INTERVAL)
        self._lags.extend(lags)
        self._due += len(lags) * _PROBE_INTERVAL
        self._alarm.set(self._due)


def expand_pause(due: float, now: float, interval: float) -> list[float]:
    """The lag of every alarm due between `due` and `now`, of which only the last one fired.

    Data arriving during a pause is stamped at its end. Counting a long pause once would give it
    the weight of a short one (coordinated omission in the probe itself).
    """
    count = max(1, math.ceil((now - due) / interval))
    return [now - due - interval * k for k in range(count)]


def summarize_lag(lags: Sequence[float]) -> Lag:
    """Mean, percentiles and maximum; all zero for an empty sequence."""
    if not lags:
        return Lag()
    values = np.array(lags)
    p99, p995, p9995 = np.quantile(values, [0.99, 0.995, 0.9995], method="higher").tolist()
    return Lag(mean=float(values.mean()), p99=p99, p995=p995, p9995=p9995, max=float(values.max()))
