"""How late this process is woken, while it loads.

The calibration is over when the load begins; what happens on the machine afterwards would be taken
for the server's slowness. So an alarm rings all the time; how late it rings is an error bar too.
"""

import asyncio
from collections.abc import Callable

import numpy as np

from maxgate.tools.loadtest.client.alarm import alarm
from maxgate.tools.loadtest.job import Lag

_EVERY = 0.0073  # in step with nothing


class LagProbe:
    """Counts from its making until `stop`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._late: list[float] = []
        self._alarm = alarm(loop, self._rang, monotonic)
        self._due = monotonic() + _EVERY
        self._alarm.set(self._due)

    def _rang(self) -> None:
        now = self._monotonic()
        self._late.append(now - self._due)
        self._due = now + _EVERY
        self._alarm.set(self._due)

    def stop(self) -> Lag:
        """Seconds; all 0 where it never rang."""
        self._alarm.close()
        if not self._late:
            return Lag()
        late = np.array(self._late)
        p99 = float(np.quantile(late, 0.99, method="higher"))
        return Lag(mean=float(late.mean()), p99=p99, max=float(late.max()))
