"""The value of every metric, from raw records; definitions are in results/metrics.py."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from maxgate.results.records import Records

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]


def succeeded(records: Records) -> Mask:
    """Which requests got a complete response."""
    mask: Mask = records["error"] == 0
    return mask


def unfinished(records: Records) -> Mask:
    """Which requests were still in flight at the end of the run."""
    codes = [code for code, kind in enumerate(records.errors) if kind == "unfinished"]
    return np.isin(records["error"], codes)


def count_output_tokens(records: Records) -> NDArray[np.int64]:
    """Output tokens per request, from the usage; without usage, the number of chunks."""
    return np.where(records["output_tokens"] >= 0, records["output_tokens"], records["chunks"])


def _last_output(records: Records) -> Values:
    # A response without output has no last output; take its end.
    return np.where(np.isnan(records["last_output"]), records["ended"], records["last_output"])


def latency(records: Records) -> Values:
    """Latency per request, from departure."""
    values: Values = _last_output(records) - records["sent"]
    return values


def tpot(records: Records) -> Values:
    """Time per output token of each request; nan below two tokens."""
    tokens = count_output_tokens(records)
    with np.errstate(divide="ignore", invalid="ignore"):
        spent = records["last_output"] - records["first_output"]
        return np.where((tokens >= 2) & (records["chunks"] >= 2), spent / (tokens - 1), np.nan)


def normalized_latency(records: Records) -> Values:
    """Latency per output token of each request; nan without tokens."""
    tokens = count_output_tokens(records)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(tokens >= 1, latency(records) / tokens, np.nan)


def within_requests(records: Records) -> Mask:
    """For each pair of neighbouring stamps, whether both belong to the same request."""
    request = np.repeat(np.arange(len(records)), records["chunks"])
    mask: Mask = request[1:] == request[:-1]
    return mask


def chunk_gaps(records: Records) -> Values:
    """Time between neighbouring chunks of a request, pooled over all requests."""
    gaps: Values = np.diff(records.stamps)[within_requests(records)]
    return gaps


PER_REQUEST: Final[dict[str, Callable[[Records], Values]]] = {
    "latency": latency,
    "response_latency": lambda records: _last_output(records) - records["scheduled"],
    "ttft": lambda records: records["first_output"] - records["sent"],
    "response_ttft": lambda records: records["first_output"] - records["scheduled"],
    "tpot": tpot,
    "normalized_latency": normalized_latency,
    "ttfb": lambda records: records["first_byte"] - records["sent"],
    "late": lambda records: records["sent"] - records["scheduled"],
    "connect": lambda records: records["connect"],
    "output_length": lambda records: count_output_tokens(records).astype(np.float64),
    "input_length": lambda records: np.where(
        records["input_tokens"] >= 0, records["input_tokens"].astype(np.float64), np.nan
    ),
}

STREAMED: Final = frozenset({"ttft", "response_ttft", "tpot", "chunk_gap"})
"""Metrics that need a streamed response."""

SCHEDULED: Final = frozenset({"response_latency", "response_ttft"})
"""Metrics that need a schedule."""


@dataclass(frozen=True)
class InFlightSeries:
    """The number of requests in flight is `counts[i]` from `times[i]` to `times[i + 1]`."""

    times: Values
    counts: NDArray[np.int64]

    def maximum(self) -> int:
        """The maximum number in flight."""
        return int(self.counts.max(initial=0))

    def mean(self, begin: float, end: float) -> float:
        """Time-weighted mean between two times."""
        if end <= begin or not len(self.times):
            return 0.0
        inside = np.clip(self.times, begin, end)
        lengths = np.diff(np.append(inside, end))
        return float(np.dot(lengths, self.counts) / (end - begin))

    def means(self, edges: Values) -> Values:
        """Time-weighted mean in each interval between neighbouring edges."""
        if not len(self.times):
            return np.zeros(len(edges) - 1)
        lengths = np.diff(self.times)
        reached = np.concatenate([[0.0], np.cumsum(lengths * self.counts[:-1])])
        means: Values = np.diff(np.interp(edges, self.times, reached)) / np.diff(edges)
        return means


def count_in_flight(sent: Values, ended: Values) -> InFlightSeries:
    """The series for these requests; an end at the time of a start is counted first."""
    times = np.concatenate([ended, sent])
    steps = np.concatenate([-np.ones(len(ended), np.int64), np.ones(len(sent), np.int64)])
    known = ~np.isnan(times)
    times, steps = times[known], steps[known]
    order = np.argsort(times, kind="stable")
    return InFlightSeries(times[order], np.cumsum(steps[order]))
