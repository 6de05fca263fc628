"""Whether it gets worse over hours: the slope of Theil and Sen (1968)."""

from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from maxgate.results.distribution import Interval
from maxgate.results.report import Drift, Level

Values = NDArray[np.float64]

_WINDOWS = 200
_MATTERS = 0.05  # of the median, in an hour


def theil_sen(x: Values, y: Values, confidence: float = 0.95) -> tuple[float, float, float]:
    """The median of the slopes between all pairs of points, and its interval."""
    first, second = np.triu_indices(len(x), 1)
    apart = x[second] - x[first]
    slopes = np.sort((y[second] - y[first])[apart > 0] / apart[apart > 0])
    n = len(x)
    sigma = np.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    spread = NormalDist().inv_cdf(0.5 + confidence / 2) * sigma
    low = max(0, round((len(slopes) - spread) / 2))
    high = min(len(slopes) - 1, round((len(slopes) + spread) / 2))
    return float(np.median(slopes)), float(slopes[low]), float(slopes[high])


def drift(level: Level) -> list[Drift]:
    """Of the second-by-second medians of latency and first token, and of throughput."""
    seconds = level.timeline[1:-1]  # the first and the last one are not whole
    found = []
    for metric, values in (
        ("latency", [second.latency_p50 for second in seconds]),
        ("ttft", [second.ttft_p50 for second in seconds]),
        ("throughput", [float(second.succeeded) for second in seconds]),
    ):
        points = [
            (second.offset / 3600, value)
            for second, value in zip(seconds, values, strict=True)
            if value is not None
        ]
        if len(points) >= 30:
            found.append(_one(metric, level, np.array(points)))
    return found


def _own_error(metric: str, level: Level) -> float:
    """What the client adds: all that a metric has drifted has to be more."""
    found = level.metrics.get(metric)
    return 0.0 if found is None or found.client_error is None else found.client_error.at("99")


def _one(metric: str, level: Level, points: Values) -> Drift:
    per_window = max(1, len(points) // _WINDOWS)
    count = len(points) // per_window
    windows = points[: count * per_window].reshape(count, per_window, 2)
    x, y = np.median(windows[:, :, 0], axis=1), np.median(windows[:, :, 1], axis=1)
    slope, low, high = theil_sen(x, y)
    middle = float(np.median(y))
    verdict: Literal["steady", "growing", "falling", "unclear"] = "steady"
    if low > 0:
        verdict = "growing" if slope > _MATTERS * middle else "steady"
    elif high < 0:
        verdict = "falling" if -slope > _MATTERS * middle else "steady"
    elif max(-low, high) > _MATTERS * middle:
        verdict = "unclear"
    if verdict in {"growing", "falling"} and abs(slope) * float(np.ptp(x)) < _own_error(
        metric, level
    ):
        verdict = "unclear"
    return Drift(
        metric=metric,
        level=f"{level.scenario}, {level.name}",
        per_hour=slope,
        interval=Interval(low=low, high=high),
        relative_per_hour=slope / middle if middle else None,
        verdict=verdict,
    )
