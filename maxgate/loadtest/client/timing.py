"""Being woken at an exact time.

Event loops keep time in whole milliseconds; a schedule of 2,000 departures a second would leave in
bursts of two. Linux can wake us to the microsecond through a file descriptor (timerfd_create(2)).
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

from maxgate.loadtest.messages import Lag

_CLOCK_MONOTONIC: Final = 1  # what time.perf_counter reads on Linux
_NONBLOCK_CLOEXEC: Final = 0o4000 | 0o2000000
_ABSOLUTE: Final = 1


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class Alarm(Protocol):
    """Rings once for each time it was set; setting it again moves it."""

    def set(self, when: float) -> None:
        """Ring at this time of the monotonic clock, or at once when it has passed."""
        ...

    def close(self) -> None:
        """Never ring again."""
        ...


class _TimerFdAlarm:
    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._loop, self._ring = loop, ring
        self._spec = _Itimerspec()
        self._spec_pointer = ctypes.byref(self._spec)
        loop.add_reader(self._fd, self._readable)

    def set(self, when: float) -> None:
        nanoseconds = max(int(when * 1e9), 1)  # 0 would switch it off
        self._spec.value.seconds, self._spec.value.nanoseconds = divmod(nanoseconds, 10**9)
        self._libc.timerfd_settime(self._fd, _ABSOLUTE, self._spec_pointer, None)

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _readable(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return  # it was set anew in the meantime
        self._ring()


class _LoopAlarm:
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        ring: Callable[[], None],
        monotonic: Callable[[], float],
    ) -> None:
        self._loop, self._ring, self._monotonic = loop, ring, monotonic
        self._timer: asyncio.TimerHandle | None = None

    def set(self, when: float) -> None:
        self.close()
        self._timer = self._loop.call_later(max(0.0, when - self._monotonic()), self._ring)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


def alarm(
    loop: asyncio.AbstractEventLoop, ring: Callable[[], None], monotonic: Callable[[], float]
) -> Alarm:
    """The most exact alarm that this system has."""
    if sys.platform == "linux":
        return _TimerFdAlarm(loop, ring)
    return _LoopAlarm(loop, ring, monotonic)


# An event loop that had nothing to do for so many seconds was asleep, and woken by what came.
_ASLEEP: Final = 0.0001


class Receiver(Protocol):
    """Whoever the bytes are for."""

    def take(self, data: bytes | None, at: float, held: float) -> None:
        """Read bytes that arrived at this time, or up to `held` seconds earlier.

        None is the end of the connection.
        """
        ...


class Inbox:
    """What has arrived and was not read yet."""

    def __init__(self, loop: asyncio.AbstractEventLoop, monotonic: Callable[[], float]) -> None:
        self._call_soon = loop.call_soon
        self._monotonic = monotonic
        self._waiting: list[tuple[Receiver, bytes | None, float, float]] = []
        # The first stamp of this turn, when the turn before it was done with, and since when what
        # is stamped in this one may have been there.
        self._turn = self._done = self._since = 0.0

    def put(self, receiver: Receiver, data: bytes | None) -> None:
        """Stamp it now, read it soon."""
        now = self._monotonic()
        if not self._waiting:
            self._call_soon(self._deliver)
            self._since = now if now - self._done > _ASLEEP else self._turn
            self._turn = now
        self._waiting.append((receiver, data, now, now - self._since))

    def _deliver(self) -> None:
        waiting, self._waiting = self._waiting, []
        for receiver, data, at, held in waiting:
            receiver.take(data, at, held)
        self._done = self._monotonic()


# In step with nothing; often enough that the last in 2,000 is known after some seconds.
_EVERY = 0.0019


class LagProbe:
    """Counts from its making until `stop`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._late = array("d")
        self._alarm = alarm(loop, self._rang, monotonic)
        self._due = monotonic() + _EVERY
        self._alarm.set(self._due)

    def _rang(self) -> None:
        late = lateness(self._due, self._monotonic(), _EVERY)
        self._late.extend(late)
        self._due += len(late) * _EVERY
        self._alarm.set(self._due)

    def stop(self) -> Lag:
        """Seconds; all 0 where it never rang."""
        self._alarm.close()
        return lag_of(self._late)


def lateness(due: float, now: float, every: float) -> list[float]:
    """How late each alarm is that was to ring from `due` to `now`, and rings but once.

    All of them count: whatever arrived in a pause was stamped at its end, and a long pause would
    otherwise weigh no more than a short one (the probe's own coordinated omission).
    """
    return [now - due - every * k for k in range(max(1, math.ceil((now - due) / every)))]


def lag_of(late: Sequence[float]) -> Lag:
    """Of these seconds; all 0 without any."""
    if not late:
        return Lag()
    values = np.array(late)
    p99, p995, p9995 = np.quantile(values, [0.99, 0.995, 0.9995], method="higher").tolist()
    return Lag(mean=float(values.mean()), p99=p99, p995=p995, p9995=p9995, max=float(values.max()))
