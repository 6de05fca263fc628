"""The values of every metric, from raw records. The definitions are in results/metrics.py."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from maxgate.results.records import Records

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]


def succeeded(records: Records) -> Mask:
    """Which requests were answered in full."""
    mask: Mask = records["error"] == 0
    return mask


def unfinished(records: Records) -> Mask:
    """Which were cut off by the end of the run."""
    cut = [place for place, kind in enumerate(records.errors) if kind == "unfinished"]
    return np.isin(records["error"], cut)


def output_tokens(records: Records) -> NDArray[np.int64]:
    """The usage's count, and for want of it the number of pieces."""
    return np.where(records["output_tokens"] >= 0, records["output_tokens"], records["chunks"])


def _last(records: Records) -> Values:
    # An answer without any output ends where it ends.
    return np.where(np.isnan(records["last_output"]), records["ended"], records["last_output"])


def latency(records: Records) -> Values:
    """Per request, from departure."""
    values: Values = _last(records) - records["sent"]
    return values


def tpot(records: Records) -> Values:
    """Per request; nan below two tokens."""
    tokens = output_tokens(records)
    with np.errstate(divide="ignore", invalid="ignore"):
        spent = records["last_output"] - records["first_output"]
        return np.where((tokens >= 2) & (records["chunks"] >= 2), spent / (tokens - 1), np.nan)


def normalized_latency(records: Records) -> Values:
    """Per request; nan without tokens."""
    tokens = output_tokens(records)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(tokens >= 1, latency(records) / tokens, np.nan)


def within_requests(records: Records) -> Mask:
    """Which neighbouring stamps belong to the same request; one fewer than there are stamps."""
    request = np.repeat(np.arange(len(records)), records["chunks"])
    mask: Mask = request[1:] == request[:-1]
    return mask


def chunk_gaps(records: Records) -> Values:
    """Between neighbouring pieces of the same request, pooled."""
    gaps: Values = np.diff(records.stamps)[within_requests(records)]
    return gaps


PER_REQUEST: Final[dict[str, Callable[[Records], Values]]] = {
    "latency": latency,
    "response_latency": lambda records: _last(records) - records["scheduled"],
    "ttft": lambda records: records["first_output"] - records["sent"],
    "response_ttft": lambda records: records["first_output"] - records["scheduled"],
    "tpot": tpot,
    "normalized_latency": normalized_latency,
    "ttfb": lambda records: records["first_byte"] - records["sent"],
    "late": lambda records: records["sent"] - records["scheduled"],
    "connect": lambda records: records["connect"],
    "output_length": lambda records: output_tokens(records).astype(np.float64),
    "input_length": lambda records: np.where(
        records["input_tokens"] >= 0, records["input_tokens"].astype(np.float64), np.nan
    ),
}

STREAMED: Final = frozenset({"ttft", "response_ttft", "tpot", "chunk_gap"})
"""They mean something only where the answer comes in pieces."""

SCHEDULED: Final = frozenset({"response_latency", "response_ttft"})
"""They mean something only where there is a schedule."""


@dataclass(frozen=True)
class Flight:
    """The number under way is `counts[i]` from `times[i]` to `times[i + 1]`."""

    times: Values
    counts: NDArray[np.int64]

    def maximum(self) -> int:
        """The most that there were at once."""
        return int(self.counts.max(initial=0))

    def mean(self, begin: float, end: float) -> float:
        """Weighted by time, between two moments."""
        if end <= begin or not len(self.times):
            return 0.0
        inside = np.clip(self.times, begin, end)
        lengths = np.diff(np.append(inside, end))
        return float(np.dot(lengths, self.counts) / (end - begin))

    def means(self, edges: Values) -> Values:
        """Weighted by time, between each two neighbouring edges."""
        if not len(self.times):
            return np.zeros(len(edges) - 1)
        lengths = np.diff(self.times)
        reached = np.concatenate([[0.0], np.cumsum(lengths * self.counts[:-1])])
        found: Values = np.diff(np.interp(edges, self.times, reached)) / np.diff(edges)
        return found


def count_in_flight(sent: Values, ended: Values) -> Flight:
    """An end and a start at the same moment are not both under way."""
    times = np.concatenate([ended, sent])
    steps = np.concatenate([-np.ones(len(ended), np.int64), np.ones(len(sent), np.int64)])
    known = ~np.isnan(times)
    times, steps = times[known], steps[known]
    order = np.argsort(times, kind="stable")
    return Flight(times[order], np.cumsum(steps[order]))
