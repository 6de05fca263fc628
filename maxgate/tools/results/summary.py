"""Values to a Distribution."""

import numpy as np
from numpy.typing import NDArray

from maxgate.tools.results.distribution import ClientError, Distribution, Interval
from maxgate.tools.results.histogram import histogram
from maxgate.tools.results.metrics import DEFINITIONS, PERCENTILES
from maxgate.tools.results.statistics import (
    curve,
    enough_for,
    interval_of,
    mean_and_percentiles,
    percentiles,
    percentiles_including_failures,
    resampled,
)

Values = NDArray[np.float64]


def summarise(
    metric: str,
    values: Values,
    *,
    failures: int = 0,
    client_error: ClientError | None = None,
    rng: np.random.Generator,
) -> Distribution:
    """The distribution of these values, which are in order of time and hold no nan."""
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
        percentiles=_above(client_error, percentiles(ordered)),
        intervals=_intervals(values, rng),
        including_failures=percentiles_including_failures(ordered, failures),
        curve=curve(ordered),
        histogram=histogram(values) if unit == "s" else None,
        client_error=client_error,
    )


def _above(error: ClientError | None, found: dict[str, float | None]) -> dict[str, float | None]:
    """Without those of the tail that are smaller than their own error bar."""
    return {
        key: value
        if value is None or error is None or key == "50" or value >= error.at(key)
        else None
        for key, value in found.items()
    }


def _intervals(values: Values, rng: np.random.Generator) -> dict[str, Interval]:
    if len(values) < 10:
        return {}
    keys = [key for key in PERCENTILES if len(values) >= 2 * enough_for(float(key))]
    draws = resampled(values, mean_and_percentiles([float(key) for key in keys]), rng)
    found = {name: interval_of(draws[:, k]) for k, name in enumerate(["mean", *keys])}
    return {name: interval for name, interval in found.items() if interval is not None}
