"""Time as a dependency, so that tests can control it."""

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks: one for durations, one for timestamps."""

    def monotonic(self) -> float:
        """Seconds that never decrease; only differences are meaningful."""
        ...

    def wall(self) -> float:
        """Seconds since 1970-01-01 UTC."""
        ...


class SystemClock:
    """The system's clocks."""

    # Bound to C functions: the hot path reads the clock several times per request.
    monotonic = staticmethod(time.perf_counter)
    wall = staticmethod(time.time)
