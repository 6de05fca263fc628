"""Pace the stand-in's streams: thousands of them share one timer."""

import asyncio
from collections.abc import Callable
from time import monotonic

_TICK = 0.001  # seconds
Advance = Callable[[], bool]
"""Sends the next token; returns whether the stream continues."""


class TimerWheel:
    """Calls each callback every `gap` ticks, counted from the tick in which it was added.

    Missed ticks are made up for in order, so that the pace does not drift.
    """

    def __init__(self, gap: int) -> None:
        self._slots: list[list[Advance]] = [[] for _ in range(gap)]
        self._now = 0
        self.size = 0

    def add(self, advance: Advance) -> None:
        """Call `advance` until it returns False, for the first time after one gap."""
        self._slots[self._now % len(self._slots)].append(advance)
        self.size += 1

    def turn_to(self, tick: int) -> None:
        """Run all callbacks that are due up to and including `tick`."""
        if self.size == 0:  # nothing was missed
            self._now = max(self._now, tick)
        while self._now < tick:
            self._now += 1
            self._run_slot(self._now % len(self._slots))

    def _run_slot(self, number: int) -> None:
        slot = self._slots[number]
        if slot:
            remaining = [advance for advance in slot if advance()]
            self.size -= len(slot) - len(remaining)
            self._slots[number] = remaining


class Pacer:
    """Advances streams every `gap_ms` milliseconds; its timer runs only while there are any."""

    def __init__(self, gap_ms: int) -> None:
        self._wheel = TimerWheel(max(1, gap_ms))
        self._is_running = False

    def add(self, advance: Advance) -> None:
        """Advance a stream from now on."""
        self._wheel.turn_to(int(monotonic() / _TICK))
        self._wheel.add(advance)
        if not self._is_running:
            self._is_running = True
            self._run()

    def _run(self) -> None:
        tick = int(monotonic() / _TICK)
        self._wheel.turn_to(tick)
        if self._wheel.size:
            delay = (tick + 1) * _TICK - monotonic()
            asyncio.get_running_loop().call_later(delay, self._run)
        else:
            self._is_running = False
