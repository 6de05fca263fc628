"""Being woken at an exact time.

Event loops keep time in whole milliseconds; a schedule of 2,000 departures a second would leave in
bursts of two. Linux can wake us to the microsecond through a file descriptor (timerfd_create(2)).
"""

import asyncio
import ctypes
import os
import sys
from collections.abc import Callable
from typing import Final, Protocol

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
