"""How late this process is woken, while it loads.

The calibration is over when the load begins; what happens on the machine afterwards would be taken
for the server's slowness. So an alarm rings all the time; how late it rings is an error bar too.
"""

import asyncio
import math
from array import array
from collections.abc import Callable, Sequence

import numpy as np

from maxgate.tools.loadtest.client.alarm import alarm
from maxgate.tools.loadtest.job import Lag

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
