"""The snapshots in the window, and the metrics of the last hour."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from maxgate.monitor.metrics import Metrics, compute_metrics
from maxgate.monitor.snapshot import Snapshot

_MAX_POINTS: Final = 3600


@dataclass(frozen=True, slots=True)
class Point:
    """The metrics at one time."""

    elapsed: float
    metrics: Metrics


class History:
    """Snapshots of the last `window` seconds, and the metrics of the last 3,600 snapshots.

    Metrics cover the window rather than one sample, so that one slow response makes no trend.
    """

    def __init__(self, window: float) -> None:
        self.window = window
        self._points: deque[Point] = deque(maxlen=_MAX_POINTS)
        self._snapshots: deque[Snapshot] = deque()

    @property
    def metrics(self) -> Metrics:
        """The current metrics; empty before the first snapshot."""
        return self._points[-1].metrics if self._points else {}

    @property
    def snapshots(self) -> Sequence[Snapshot]:
        """The snapshots in the window, and the last one before it."""
        return tuple(self._snapshots)

    def add(self, snapshot: Snapshot) -> None:
        """Append a snapshot and compute its metrics."""
        self._snapshots.append(snapshot)
        # The last snapshot before the window is the baseline of the counters.
        while len(self._snapshots) > 1 and (
            self._snapshots[1].elapsed <= snapshot.elapsed - self.window
        ):
            self._snapshots.popleft()
        self._points.append(Point(snapshot.elapsed, compute_metrics(self._snapshots)))

    def trend(self, name: str, length: int) -> list[float | None]:
        """The last `length` values of a metric, oldest first; None where unknown."""
        recent = list(self._points)[-length:]
        return [point.metrics.get(name) for point in recent]

    def usual_value(self, name: str) -> float | None:
        """The median of a metric before the window; None with fewer than three values.

        Values inside the window are excluded: in a short history, a slowdown would dominate them.
        """
        if not self._points:
            return None
        begin = self._points[-1].elapsed - self.window
        values = [
            point.metrics[name]
            for point in self._points
            if point.elapsed <= begin and name in point.metrics
        ]
        return median(values) if len(values) >= 3 else None
