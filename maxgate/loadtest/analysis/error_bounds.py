"""How far a number may be off because the client was busy when bytes arrived.

Every stamp comes with how much earlier the bytes may have been there
(`Records.arrival_uncertainty`). So every value lies between two others, and so does every
percentile, which grows with each of its values.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from maxgate.loadtest.analysis.metrics import Values, output_tokens, within_requests
from maxgate.results.metrics import PERCENTILES
from maxgate.results.records import Records
from maxgate.results.statistics import percentile

Bounds = tuple[Values, Values]
"""By how much each value may be too large, and by how much too small."""


def error_bounds(values: Values, room: Bounds) -> dict[str, float]:
    """By percentile, never falling; that of the median also holds for the mean."""
    too_large, too_small = room
    low, middle, high = (np.sort(v) for v in (values - too_large, values, values + too_small))
    found: dict[str, float] = {}
    widest = max(float(too_large.mean()), float(too_small.mean())) if len(values) else 0.0
    for key in PERCENTILES if len(values) else ():
        below, there, above = (percentile(v, float(key)) or 0.0 for v in (low, middle, high))
        widest = found[key] = max(widest, there - below, above - there)
    return found


def _first(records: Records) -> Values:
    return _held(records, np.cumsum(records["chunks"]) - records["chunks"])


def _last(records: Records) -> Values:
    return _held(records, np.cumsum(records["chunks"]) - 1)


def _held(records: Records, places: NDArray[np.int64]) -> Values:
    some = records["chunks"] > 0
    held = np.zeros(len(records))
    held[some] = records.arrival_uncertainty[places[some]]
    return held


def _nothing(records: Records) -> Values:
    return np.zeros(len(records))


def _per_token(room: Callable[[Records], Values], less: int) -> Callable[[Records], Values]:
    return lambda records: room(records) / np.maximum(output_tokens(records) - less, 1)


_PER_REQUEST: Final[dict[str, tuple[Callable[[Records], Values], Callable[[Records], Values]]]] = {
    "latency": (_last, _nothing),
    "response_latency": (_last, _nothing),
    "ttft": (_first, _nothing),
    "response_ttft": (_first, _nothing),
    "tpot": (_per_token(_last, 1), _per_token(_first, 1)),
    "normalized_latency": (_per_token(_last, 0), _nothing),
}


def request_bounds(metric: str, records: Records) -> Bounds:
    """Of each request's value; nothing where no stamp of an answer is in it."""
    too_large, too_small = _PER_REQUEST.get(metric, (_nothing, _nothing))
    return too_large(records), too_small(records)


def chunk_gap_bounds(records: Records) -> Bounds:
    """Of the values of `chunk_gaps`: both its stamps may be late."""
    inside = within_requests(records)
    return records.arrival_uncertainty[1:][inside], records.arrival_uncertainty[:-1][inside]
