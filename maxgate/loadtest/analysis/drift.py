"""Detect drift over hours, by the Theil-Sen slope (Sen 1968)."""

from statistics import NormalDist
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from maxgate.results.distribution import Interval
from maxgate.results.report import Drift, Level

Values = NDArray[np.float64]

_MAX_WINDOWS: Final = 200
_MIN_RELATIVE_DRIFT: Final = 0.05  # per hour, of the median
_MIN_POINTS: Final = 30


def theil_sen(x: Values, y: Values, confidence: float = 0.95) -> tuple[float, float, float]:
    """The median slope between all pairs of points, and the ends of its confidence interval."""
    first, second = np.triu_indices(len(x), 1)
    apart = x[second] - x[first]
    slopes = np.sort((y[second] - y[first])[apart > 0] / apart[apart > 0])
    n = len(x)
    sigma = np.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    spread = NormalDist().inv_cdf(0.5 + confidence / 2) * sigma
    low = max(0, round((len(slopes) - spread) / 2))
    high = min(len(slopes) - 1, round((len(slopes) + spread) / 2))
    return float(np.median(slopes)), float(slopes[low]), float(slopes[high])


def detect_drift(level: Level) -> list[Drift]:
    """Drift of the medians of latency and TTFT per second, and of throughput."""
    seconds = level.timeline[1:-1]  # the first and the last are incomplete
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
        if len(points) >= _MIN_POINTS:
            found.append(_measure_drift(metric, level, np.array(points)))
    return found


def _measure_drift(metric: str, level: Level, points: Values) -> Drift:
    per_window = max(1, len(points) // _MAX_WINDOWS)
    count = len(points) // per_window
    windows = points[: count * per_window].reshape(count, per_window, 2)
    x, y = np.median(windows[:, :, 0], axis=1), np.median(windows[:, :, 1], axis=1)
    slope, low, high = theil_sen(x, y)
    median = float(np.median(y))
    threshold = _MIN_RELATIVE_DRIFT * median
    verdict: Literal["steady", "growing", "falling", "unclear"] = "steady"
    if low > 0:
        verdict = "growing" if slope > threshold else "steady"
    elif high < 0:
        verdict = "falling" if -slope > threshold else "steady"
    elif max(-low, high) > threshold:
        verdict = "unclear"
    # A drift smaller than the client's own error says nothing about the server.
    distribution = level.metrics.get(metric)
    client_error = None if distribution is None else distribution.client_error
    total = abs(slope) * float(np.ptp(x))
    if client_error is not None and verdict != "steady" and total < client_error.at("99"):
        verdict = "unclear"
    return Drift(
        metric=metric,
        level=f"{level.scenario}, {level.name}",
        per_hour=slope,
        interval=Interval(low=low, high=high),
        relative_per_hour=slope / median if median else None,
        verdict=verdict,
    )
