"""The time line of a level, second by second."""

from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from maxgate.loadtest.analysis.metrics import (
    PER_REQUEST,
    count_in_flight,
    count_output_tokens,
    succeeded,
    unfinished,
)
from maxgate.results.records import Records
from maxgate.results.report import Second
from maxgate.results.statistics import percentile

Values = NDArray[np.float64]

_MAX_SECONDS: Final = 48 * 3600


def build_timeline(records: Records, *, stream: bool) -> list[Second]:
    """Every second from the start to the last end; empty for runs over two days.

    Requests count in the second in which they ended, tokens in that in which they arrived.
    """
    if not len(records):
        return []
    count = int(np.nanmax(records["ended"])) + 1
    if count > _MAX_SECONDS:
        return []
    ended = records.select(~np.isnan(records["ended"]))
    order = np.argsort(ended["ended"], kind="stable")
    bounds = np.searchsorted(ended["ended"][order], np.arange(count + 1))
    ok, not_finished = succeeded(ended)[order], unfinished(ended)[order]
    latency, ttft = (PER_REQUEST[metric](ended)[order] for metric in ("latency", "ttft"))
    started = np.bincount(np.floor(records["sent"]).astype(np.int64), minlength=count)
    tokens = _tokens_by_second(records, count)
    in_flight = count_in_flight(records["sent"], records["ended"]).means(np.arange(count + 1.0))
    found = []
    for offset, (low, high) in enumerate(pairwise(bounds.tolist())):
        here = ok[low:high]
        done = np.sort(latency[low:high][here])
        first = np.sort(ttft[low:high][here]) if stream else np.empty(0)
        first = first[~np.isnan(first)]
        found.append(
            Second(
                offset=offset,
                started=int(started[offset]),
                succeeded=int(here.sum()),
                failed=int((~here & ~not_finished[low:high]).sum()),
                output_tokens=round(float(tokens[offset])),
                in_flight=float(in_flight[offset]),
                latency_p50=percentile(done, 50),
                latency_p95=percentile(done, 95),
                ttft_p50=percentile(first, 50),
                ttft_p95=percentile(first, 95),
            )
        )
    return found


def _tokens_by_second(records: Records, seconds: int) -> Values:
    chunks = np.maximum(records["chunks"], 1)
    weight = np.repeat(count_output_tokens(records) / chunks, records["chunks"])
    second = np.clip(np.floor(records.stamps).astype(np.int64), 0, seconds - 1)
    return np.bincount(second, weights=weight, minlength=seconds).astype(np.float64)
