"""Streams that say something at equal gaps: one wheel for all of them, told the time in ticks."""

from collections.abc import Callable

Advance = Callable[[], bool]
"""Says the next thing; false when it was the last one."""


class PacingWheel:
    """Each stream advances every `gap` ticks, counted from the tick in which it joined.

    Nothing drifts: ticks that were missed are made up for, in order.
    """

    def __init__(self, gap: int) -> None:
        self._slots: list[list[Advance]] = [[] for _ in range(gap)]
        self._now = 0
        self.streams = 0

    def join(self, advance: Advance) -> None:
        """From now on, first after one whole gap."""
        self._slots[self._now % len(self._slots)].append(advance)
        self.streams += 1

    def turn_to(self, now: int) -> None:
        """Advance whatever is due up to and including tick `now`."""
        # A wheel that stood empty has nothing to make up for.
        if self.streams == 0:
            self._now = max(self._now, now)
        while self._now < now:
            self._now += 1
            self._advance(self._now % len(self._slots))

    def _advance(self, number: int) -> None:
        slot = self._slots[number]
        if not slot:
            return
        going_on = [advance for advance in slot if advance()]
        self.streams -= len(slot) - len(going_on)
        self._slots[number] = going_on
