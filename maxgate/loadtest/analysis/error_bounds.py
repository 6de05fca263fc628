"""Bounds of the error caused by data that arrived while the client was busy.

Every stamp has an uncertainty: by how much earlier the data may have arrived. So every value lies
between two bounds, and so does every percentile, because percentiles increase with each value.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from maxgate.loadtest.analysis.metrics import Values, count_output_tokens, within_requests
from maxgate.results.metrics import PERCENTILES
from maxgate.results.records import Records
from maxgate.results.statistics import percentile

Bounds = tuple[Values, Values]
"""By how much each value may be too large, and by how much too small."""


def error_bounds(values: Values, bounds: Bounds) -> dict[str, float]:
    """Error bound by percentile, never decreasing; that of the median also covers the mean."""
    if not len(values):
        return {}
    too_large, too_small = bounds
    low, measured, high = (np.sort(v) for v in (values - too_large, values, values + too_small))
    found: dict[str, float] = {}
    widest = max(float(too_large.mean()), float(too_small.mean()))
    for key in PERCENTILES:
        below, value, above = (percentile(v, float(key)) or 0.0 for v in (low, measured, high))
        widest = found[key] = max(widest, value - below, above - value)
    return found


def request_bounds(metric: str, records: Records) -> Bounds:
    """Bounds of a per-request metric; zero for metrics without an arrival."""
    too_large, too_small = _PER_REQUEST.get(metric, (_zero, _zero))
    return too_large(records), too_small(records)


def chunk_gap_bounds(records: Records) -> Bounds:
    """Bounds of `chunk_gaps`, whose two stamps both have an uncertainty."""
    inside = within_requests(records)
    uncertainty = records.arrival_uncertainty
    return uncertainty[1:][inside], uncertainty[:-1][inside]


def _first_output(records: Records) -> Values:
    return _at_outputs(records, np.cumsum(records["chunks"]) - records["chunks"])


def _last_output(records: Records) -> Values:
    return _at_outputs(records, np.cumsum(records["chunks"]) - 1)


def _at_outputs(records: Records, positions: NDArray[np.int64]) -> Values:
    """The uncertainty of one output per request; zero for requests without output."""
    has_output = records["chunks"] > 0
    uncertainty = np.zeros(len(records))
    uncertainty[has_output] = records.arrival_uncertainty[positions[has_output]]
    return uncertainty


def _zero(records: Records) -> Values:
    return np.zeros(len(records))


def _per_token(
    uncertainty: Callable[[Records], Values], *, intervals: bool
) -> Callable[[Records], Values]:
    """Divided by the output tokens, or by the intervals between them."""
    return lambda records: (
        uncertainty(records) / np.maximum(count_output_tokens(records) - intervals, 1)
    )


_PER_REQUEST: Final[dict[str, tuple[Callable[[Records], Values], Callable[[Records], Values]]]] = {
    "latency": (_last_output, _zero),
    "response_latency": (_last_output, _zero),
    "ttft": (_first_output, _zero),
    "response_ttft": (_first_output, _zero),
    "tpot": (
        _per_token(_last_output, intervals=True),
        _per_token(_first_output, intervals=True),
    ),
    "normalized_latency": (_per_token(_last_output, intervals=False), _zero),
}
