"""Percentiles and bootstrap intervals.

Percentiles are nearest-rank, so each is a measured value. Intervals come from a moving block
bootstrap (Künsch 1989), because consecutive requests share the server's state: resampling them
independently would make the intervals too narrow.
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
_MAX_RESAMPLE_SIZE: Final = 20_000
_MAX_BATCH_VALUES: Final = 500_000  # bounds the memory used at a time


def min_sample_size(percent: float) -> int:
    """Smallest sample for a percentile: large enough to expect one value beyond it."""
    return 1 if percent <= 50 else math.ceil(1 / (1 - percent / 100) - 1e-9)


def min_interval_size(percent: float) -> int:
    """Smallest sample for a 95 % confidence interval of a percentile.

    In smaller samples, the percentile itself exceeds every value with a probability above 2.5 %
    (`(percent / 100) ** size`), so no value can be the upper end: 6 values for P50, 72 for P95, 368
    for P99. Bootstrap intervals of smaller samples would end at the maximum and be too narrow.
    """
    return math.ceil(math.log(0.025) / math.log(percent / 100) - 1e-9)


def percentile(ordered: Values, percent: float) -> float | None:
    """Nearest-rank percentile of sorted values; None if there are no values."""
    if not len(ordered):
        return None
    rank = max(1, math.ceil(len(ordered) * percent / 100 - 1e-9))
    return float(ordered[rank - 1])


def percentiles(ordered: Values) -> dict[str, float | None]:
    """All published percentiles by key; None where the sample is too small."""
    return {
        key: percentile(ordered, float(key))
        if len(ordered) >= min_sample_size(float(key))
        else None
        for key in PERCENTILES
    }


def percentiles_including_failures(ordered: Values, failures: int) -> dict[str, float | None]:
    """Percentiles with every failure counted as infinitely slow; None where one is a failure.

    Percentiles for which the sample is too small are left out.
    """
    total = len(ordered) + failures
    ranked = np.concatenate([ordered, np.full(failures, np.inf)])
    found: dict[str, float | None] = {}
    for key in PERCENTILES:
        if total >= min_sample_size(float(key)):
            value = percentile(ranked, float(key))
            found[key] = value if value is not None and math.isfinite(value) else None
    return found


def curve(ordered: Values, points: int = 60) -> list[tuple[float, float]]:
    """(percent, value) pairs, evenly spaced in nines, as far as the sample allows."""
    if not len(ordered):
        return []
    nines = np.linspace(0.0, math.log10(max(len(ordered), 2)), points)
    percents = [0.0, *(100 * (1 - 10 ** -float(n)) for n in nines[1:])]
    return [(round(p, 6), percentile(ordered, p) or 0.0) for p in percents]


def block_length(values: Values) -> int:
    """Block length of the bootstrap: n ** (1/3) * (1 + rho) / (1 - rho), rho the lag-1 correlation.

    It is 1 if the correlation is not significant, and at most an eighth of the values.
    """
    count = len(values)
    if count < 8 or float(np.ptp(values)) == 0:
        return 1
    centred = values - values.mean()
    rho = float(np.dot(centred[1:], centred[:-1]) / np.dot(centred, centred))
    rho = min(max(rho, 0.0), 0.9)
    if rho < 2 / math.sqrt(count):
        return 1  # not significant
    return max(1, min(count // 8, round(float(count ** (1 / 3)) * (1 + rho) / (1 - rho))))


def bootstrap(
    values: Values, statistic: Statistic, rng: np.random.Generator, count: int = RESAMPLES
) -> Values:
    """Compute the statistic of `count` block resamples of values in time order.

    `values` has shape (n,), or (n, 2) for pairs. `statistic` maps an array of resamples, one per
    row, to one result row each. Resamples of large samples are smaller than the sample; their
    deviation is scaled down by the square root of the ratio (m out of n bootstrap).
    """
    size = len(values)
    length = block_length(values if values.ndim == 1 else values[:, 1] - values[:, 0])
    blocks = math.ceil(min(size, _MAX_RESAMPLE_SIZE) / length)
    drawn = []
    batch = max(1, _MAX_BATCH_VALUES // (blocks * length))
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
    """Statistic: nearest-rank percentile of each row."""

    def compute(rows: Values) -> Values:
        rank = max(1, math.ceil(rows.shape[1] * percent / 100 - 1e-9)) - 1
        chosen: Values = np.partition(rows, rank, axis=1)[:, rank]
        return chosen

    return compute


def row_means_and_percentiles(percents: Sequence[float]) -> Statistic:
    """Statistic: mean and nearest-rank percentiles of each row, one column each."""

    def compute(rows: Values) -> Values:
        size = rows.shape[1]
        ranks = [max(1, math.ceil(size * percent / 100 - 1e-9)) - 1 for percent in percents]
        chosen = np.partition(rows, ranks, axis=1)[:, ranks]
        return np.concatenate([rows.mean(axis=1, keepdims=True), chosen], axis=1)

    return compute


def row_means(rows: Values) -> Values:
    """Statistic: mean of each row."""
    means: Values = rows.mean(axis=1)
    return means


def bootstrap_interval(draws: Values, confidence: float = 0.95) -> Interval | None:
    """Percentile interval of bootstrap draws; None if there are none or any is not finite."""
    if not len(draws) or not np.isfinite(draws).all():
        return None
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Interval(low=float(low), high=float(high), confidence=confidence)
