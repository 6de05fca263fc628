"""Time, handed in rather than looked up, so that tests decide what time it is."""

import time
from typing import Protocol


class Clock(Protocol):
    """Two readings: one for differences, one for people."""

    def monotonic(self) -> float:
        """Seconds that never go back; only differences mean something."""
        ...

    def wall(self) -> float:
        """Seconds since 1970-01-01 UTC."""
        ...


class SystemClock:
    """The clock of this machine."""

    # Static methods bound at class creation: the hot path reads the clock several times a request.
    monotonic = staticmethod(time.perf_counter)
    wall = staticmethod(time.time)
