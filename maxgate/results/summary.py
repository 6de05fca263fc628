"""Summarize measured values as a Distribution with a histogram."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from maxgate.results.distribution import ClientError, Distribution, Histogram, Interval
from maxgate.results.metrics import DEFINITIONS, PERCENTILES
from maxgate.results.statistics import (
    bootstrap,
    bootstrap_interval,
    curve,
    min_interval_size,
    percentiles,
    percentiles_including_failures,
    row_means_and_percentiles,
)

STEPS_PER_OCTAVE: Final = 16
_UNIT: Final = 1e-6

Values = NDArray[np.float64]


def histogram_bound(step: int) -> float:
    """Histogram bound 2 ** (step / 16) microseconds, in seconds."""
    return float(_UNIT * 2.0 ** (step / STEPS_PER_OCTAVE))


def histogram(values: Values) -> Histogram | None:
    """Histogram from the lowest to the highest non-empty bucket; None if there are no values."""
    if not len(values):
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.ceil(np.log2(np.maximum(values, _UNIT) / _UNIT) * STEPS_PER_OCTAVE - 1e-9)
    upper = steps.astype(np.int64)
    lowest = int(upper.min())
    counts = np.bincount(upper - lowest)
    bounds = [histogram_bound(lowest - 1 + k) for k in range(len(counts) + 1)]
    return Histogram(bounds=bounds, counts=counts.tolist())


def add_histograms(histograms: Sequence[Histogram]) -> Histogram | None:
    """Sum histograms; None if there are none."""
    counts: dict[int, int] = {}
    for one in histograms:
        lowest = round(np.log2(one.bounds[1] / _UNIT) * STEPS_PER_OCTAVE)
        for k, count in enumerate(one.counts):
            counts[lowest + k] = counts.get(lowest + k, 0) + count
    if not counts:
        return None
    low, high = min(counts), max(counts)
    return Histogram(
        bounds=[histogram_bound(step) for step in range(low - 1, high + 1)],
        counts=[counts.get(step, 0) for step in range(low, high + 1)],
    )


def summarize(
    metric: str,
    values: Values,
    *,
    failures: int = 0,
    client_error: ClientError | None = None,
    rng: np.random.Generator,
) -> Distribution:
    """Summarize values in time order, without nan; `failures` counts requests without a value."""
    unit = DEFINITIONS[metric].unit
    if not len(values):
        return Distribution(metric=metric, unit=unit, count=0, client_error=client_error)
    ordered = np.sort(values)
    if client_error is not None and float(ordered[(len(ordered) - 1) // 2]) < client_error.mean:
        return Distribution(
            metric=metric,
            unit=unit,
            count=len(values),
            client_error=client_error,
            below_client_error=True,
        )
    return Distribution(
        metric=metric,
        unit=unit,
        count=len(values),
        min=float(ordered[0]),
        max=float(ordered[-1]),
        mean=float(values.mean()),
        standard_deviation=float(values.std(ddof=1)) if len(values) > 1 else None,
        percentiles=_blank_below_error(client_error, percentiles(ordered)),
        intervals=_bootstrap_intervals(values, rng),
        including_failures=percentiles_including_failures(ordered, failures),
        curve=curve(ordered),
        histogram=histogram(values) if unit == "s" else None,
        client_error=client_error,
    )


def _blank_below_error(
    error: ClientError | None, found: dict[str, float | None]
) -> dict[str, float | None]:
    """Blank percentiles above the median that are smaller than their error bar."""
    if error is None:
        return found
    return {
        key: None if value is not None and key != "50" and value < error.at(key) else value
        for key, value in found.items()
    }


def _bootstrap_intervals(values: Values, rng: np.random.Generator) -> dict[str, Interval]:
    if len(values) < 10:
        return {}
    keys = [key for key in PERCENTILES if len(values) >= min_interval_size(float(key))]
    draws = bootstrap(values, row_means_and_percentiles([float(key) for key in keys]), rng)
    found = {name: bootstrap_interval(draws[:, k]) for k, name in enumerate(["mean", *keys])}
    return {name: interval for name, interval in found.items() if interval is not None}
