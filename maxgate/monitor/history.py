"""What has been seen so far, as long as it matters."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from maxgate.monitor.metrics import Numbers, numbers
from maxgate.monitor.snapshot import Snapshot

_POINTS: Final = 3600


@dataclass(frozen=True, slots=True)
class Point:
    """The numbers at one time."""

    elapsed: float
    numbers: Numbers


class History:
    """Snapshots of the last `window` seconds, and the numbers of the last 3,600 points.

    Percentiles and rates are over the window, so that one slow answer does not make a trend.
    """

    def __init__(self, window: float) -> None:
        self.window = window
        self.points: deque[Point] = deque(maxlen=_POINTS)
        self._snapshots: deque[Snapshot] = deque()

    @property
    def latest(self) -> Snapshot | None:
        """None before the first."""
        return self._snapshots[-1] if self._snapshots else None

    @property
    def numbers(self) -> Numbers:
        """The numbers now; empty before the first snapshot."""
        return self.points[-1].numbers if self.points else {}

    @property
    def snapshots(self) -> Sequence[Snapshot]:
        """Those in the window, and the last one before it."""
        return tuple(self._snapshots)

    def add(self, snapshot: Snapshot) -> None:
        """Take in the next one."""
        self._snapshots.append(snapshot)
        # The last one before the window is where its counters start from.
        while len(self._snapshots) > 1 and (
            self._snapshots[1].elapsed <= snapshot.elapsed - self.window
        ):
            self._snapshots.popleft()
        self.points.append(Point(snapshot.elapsed, numbers(self._snapshots)))

    def trend(self, name: str, length: int) -> list[float | None]:
        """The last values of a number, oldest first; None where it could not be told."""
        recent = list(self.points)[-length:]
        return [point.numbers.get(name) for point in recent]

    def usual(self, name: str) -> float | None:
        """The median of a number before the window began; None without three such points.

        Half of a short history would be the slow-down itself.
        """
        if not self.points:
            return None
        begin = self.points[-1].elapsed - self.window
        values = [
            point.numbers[name]
            for point in self.points
            if point.elapsed <= begin and name in point.numbers
        ]
        return median(values) if len(values) >= 3 else None
