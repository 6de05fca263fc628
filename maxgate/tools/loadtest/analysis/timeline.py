"""The run, second by second."""

import numpy as np
from numpy.typing import NDArray

from maxgate.tools.loadtest.analysis.in_flight import flight_of
from maxgate.tools.loadtest.analysis.measures import (
    PER_REQUEST,
    output_tokens,
    succeeded,
    unfinished,
)
from maxgate.tools.results.level import Second
from maxgate.tools.results.records import Records
from maxgate.tools.results.statistics import percentile

Values = NDArray[np.float64]

_SECONDS_AT_MOST = 7200


def timeline(records: Records, *, stream: bool) -> list[Second]:
    """Every second from the first departure to the last end; empty for runs over two hours.

    Requests count where they ended, their tokens too where they came in one piece, else where each
    piece arrived.
    """
    if not len(records):
        return []
    last = int(np.nanmax(records["ended"]))
    if last > _SECONDS_AT_MOST:
        return []
    flight = flight_of(records["sent"], records["ended"])
    ok, cut = succeeded(records), unfinished(records)
    ended, started = np.floor(records["ended"]), np.floor(records["sent"])
    tokens = _tokens_by_second(records, last + 1)
    latency = PER_REQUEST["latency"](records)
    ttft = PER_REQUEST["ttft"](records)
    found = []
    for offset in range(last + 1):
        here = ended == offset
        done = np.sort(latency[here & ok])
        first = np.sort(ttft[here & ok & ~np.isnan(ttft)]) if stream else np.empty(0)
        found.append(
            Second(
                offset=offset,
                started=int((started == offset).sum()),
                succeeded=int((here & ok).sum()),
                failed=int((here & ~ok & ~cut).sum()),
                output_tokens=round(float(tokens[offset])),
                in_flight=flight.mean(offset, offset + 1),
                latency_p50=percentile(done, 50),
                latency_p95=percentile(done, 95),
                ttft_p50=percentile(first, 50),
                ttft_p95=percentile(first, 95),
            )
        )
    return found


def _tokens_by_second(records: Records, seconds: int) -> Values:
    chunks = np.maximum(records["chunks"], 1)
    weight = np.repeat(output_tokens(records) / chunks, records["chunks"])
    seconds_of = np.clip(np.floor(records.stamps).astype(np.int64), 0, seconds - 1)
    return np.bincount(seconds_of, weights=weight, minlength=seconds).astype(np.float64)
