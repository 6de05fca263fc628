"""Percentiles and intervals.

Percentiles are nearest-rank: always a value that was measured. Intervals come from a moving block
bootstrap (Künsch 1989), because neighbouring requests share the server's state: resampling them one
by one would make intervals that are too narrow.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from maxgate.results.distribution import Interval
from maxgate.results.metrics import PERCENTILES

Values = NDArray[np.float64]
Statistic = Callable[[Values], Values]

RESAMPLES: Final = 400
_AT_MOST: Final = 20_000  # values in one resample; see `bootstrap`
_IN_MEMORY: Final = 500_000  # values of the resamples that are drawn together


def min_sample_size(percent: float) -> int:
    """How many values a percentile needs before it says anything: one beyond it on average."""
    return 1 if percent <= 50 else math.ceil(1 / (1 - percent / 100) - 1e-9)


def percentile(ordered: Values, percent: float) -> float | None:
    """The value that `percent` of all stay at or below, by nearest rank; None without any."""
    if not len(ordered):
        return None
    rank = max(1, math.ceil(len(ordered) * percent / 100 - 1e-9))
    return float(ordered[rank - 1])


def percentiles(ordered: Values) -> dict[str, float | None]:
    """All that are published; None where the sample is too small for one."""
    return {
        key: percentile(ordered, float(key))
        if len(ordered) >= min_sample_size(float(key))
        else None
        for key in PERCENTILES
    }


def percentiles_including_failures(ordered: Values, failures: int) -> dict[str, float | None]:
    """As `percentiles`, each failure taken as slower than everything; None where it is one."""
    return {
        key: _or_none(percentile(with_failures(ordered, failures), float(key)))
        for key in PERCENTILES
        if len(ordered) + failures >= min_sample_size(float(key))
    }


def with_failures(ordered: Values, failures: int) -> Values:
    """The values with an infinite one for each failure."""
    return np.concatenate([ordered, np.full(failures, np.inf)])


def _or_none(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def curve(ordered: Values, points: int = 60) -> list[tuple[float, float]]:
    """Percent and value, evenly spaced in the number of nines, as far as the sample allows."""
    if not len(ordered):
        return []
    nines = np.linspace(0.0, math.log10(max(len(ordered), 2)), points)
    percents = [0.0, *(100 * (1 - 10 ** -float(n)) for n in nines[1:])]
    return [(round(p, 6), percentile(ordered, p) or 0.0) for p in percents]


def block_length(values: Values) -> int:
    """How many neighbours are drawn together, from the correlation of neighbours.

    The rule is n ** (1/3), stretched by (1 + rho) / (1 - rho).
    """
    count = len(values)
    if count < 8 or float(np.ptp(values)) == 0:
        return 1
    centred = values - values.mean()
    rho = float(np.dot(centred[1:], centred[:-1]) / np.dot(centred, centred))
    rho = min(max(rho, 0.0), 0.9)
    if rho < 2 / math.sqrt(count):
        return 1  # no more than chance would show
    return max(1, min(count // 8, round(float(count ** (1 / 3)) * (1 + rho) / (1 - rho))))


def bootstrap(
    values: Values, statistic: Statistic, rng: np.random.Generator, count: int = RESAMPLES
) -> Values:
    """The statistic of `count` block resamples of these values, which are in order of time.

    Pairs have two columns. `statistic` takes one resample a row and gives one row for each. Of
    very many values a resample takes fewer, and its deviation is scaled down by the root of the
    ratio (m out of n bootstrap).
    """
    size = len(values)
    length = block_length(values if values.ndim == 1 else values[:, 1] - values[:, 0])
    blocks = math.ceil(min(size, _AT_MOST) / length)
    drawn = []
    batch = max(1, _IN_MEMORY // (blocks * length))
    for row in range(0, count, batch):
        starts = rng.integers(0, size, (min(batch, count - row), blocks))
        picked = (starts[:, :, None] + np.arange(length)).reshape(len(starts), -1) % size
        drawn.append(statistic(values[picked]))
    found = np.concatenate(drawn)
    if blocks * length >= size:
        return found
    whole = statistic(values[None, :])[0]
    scaled: Values = whole + (found - whole) * math.sqrt(blocks * length / size)
    return scaled


def row_percentile(percent: float) -> Statistic:
    """The nearest-rank percentile of each row."""

    def of(rows: Values) -> Values:
        rank = max(1, math.ceil(rows.shape[1] * percent / 100 - 1e-9)) - 1
        chosen: Values = np.partition(rows, rank, axis=1)[:, rank]
        return chosen

    return of


def mean_and_percentiles(percents: Sequence[float]) -> Statistic:
    """The mean and these nearest-rank percentiles of each row, a column each."""

    def of(rows: Values) -> Values:
        size = rows.shape[1]
        ranks = [max(1, math.ceil(size * percent / 100 - 1e-9)) - 1 for percent in percents]
        chosen = np.partition(rows, ranks, axis=1)[:, ranks]
        return np.concatenate([rows.mean(axis=1, keepdims=True), chosen], axis=1)

    return of


def row_means(rows: Values) -> Values:
    """The mean of each row."""
    means: Values = rows.mean(axis=1)
    return means


def bootstrap_interval(draws: Values, confidence: float = 0.95) -> Interval | None:
    """The middle part of the draws; None where they are not all finite."""
    if not len(draws) or not np.isfinite(draws).all():
        return None
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Interval(low=float(low), high=float(high), confidence=confidence)
