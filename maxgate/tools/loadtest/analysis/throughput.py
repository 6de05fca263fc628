"""Requests and tokens per second."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from maxgate.tools.loadtest.analysis.measures import output_tokens, succeeded
from maxgate.tools.loadtest.analysis.objectives import good
from maxgate.tools.results.level import Throughput
from maxgate.tools.results.records import Records
from maxgate.tools.results.statistics import interval_of, mean_of, resampled

Values = NDArray[np.float64]


def throughput_of(
    records: Records, window: float, *, objectives: Mapping[str, float], scheduled: bool, seed: int
) -> Throughput:
    """Per second of the window, of what was answered; `good` is what met its objectives."""
    ok = records.select(succeeded(records))
    per = 1 / window if window > 0 else 0.0
    inputs = ok["input_tokens"]
    met = good(records, objectives, scheduled=scheduled)
    by_second = _finished_by_second(ok, window)
    rng = np.random.default_rng([seed, 3])
    draws = resampled(by_second, mean_of, rng) if len(by_second) >= 5 else np.empty(0)
    return Throughput(
        requests=len(ok) * per,
        requests_interval=interval_of(draws),
        good_requests=int(met.sum()) * per if objectives else None,
        input_tokens=float(inputs[inputs >= 0].sum()) * per if (inputs >= 0).any() else None,
        output_tokens=float(output_tokens(ok).sum()) * per,
        chunks=float(ok["chunks"].sum()) * per,
    )


def _finished_by_second(ok: Records, window: float) -> Values:
    if not len(ok) or window < 1:
        return np.empty(0)
    begin = float(ok["sent"].min())
    edges = begin + np.arange(int(window) + 1)
    counts: Values = np.histogram(ok["ended"], edges)[0].astype(np.float64)
    return counts
