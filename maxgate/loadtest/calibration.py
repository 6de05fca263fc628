"""What the client itself adds: a run against the scripted server at the same load and cadence.

Both note their times in the machine's one monotonic clock, so the difference between what the
client measured and what the server did is the client's (and the loopback network's) own. On a
machine with few cores the scripted server competes with the client: the error is overstated.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maxgate.loadtest.analysis.metrics import output_tokens, succeeded
from maxgate.loadtest.messages import Lag, LoadShape
from maxgate.loadtest.mock_server.player import ServerTimestamps
from maxgate.loadtest.mock_server.script import Script
from maxgate.results.distribution import ClientError
from maxgate.results.records import Records

Values = NDArray[np.float64]

_MAX_RESPONSE_SECONDS = 0.5  # seconds of one scripted answer; longer ones are cut, not slowed


@dataclass(frozen=True)
class Cadence:
    """How a server answers: seconds to the first piece, seconds between pieces, pieces."""

    first: float
    gap: float
    chunks: int

    def script(self) -> Script:
        """The same cadence, for half a second at most."""
        chunks = max(1, self.chunks)
        if self.gap > 0:
            chunks = min(chunks, max(1, int(_MAX_RESPONSE_SECONDS / self.gap)))
        return Script(first=min(self.first, _MAX_RESPONSE_SECONDS / 2), gap=self.gap, chunks=chunks)

    def load(self, load: LoadShape, seconds: float) -> LoadShape:
        """The same load; where answers were cut, more requests give the same pieces a second."""
        cut = max(1, self.chunks) / self.script().chunks
        return load.model_copy(
            update={
                "kind": "closed" if load.kind == "closed" else "open",
                "rate": (load.rate or 1.0) * cut,
                "duration": seconds,
                "requests": None,
                "warmup": load.concurrency if load.kind == "closed" else 1,
            }
        )


def measure_cadence(records: Records) -> Cadence:
    """The middle of what a few requests met; a fast server where none succeeded."""
    ok = records.select(succeeded(records) & (records["chunks"] > 0))
    if not len(ok):
        return Cadence(first=0.02, gap=0.01, chunks=16)
    first = float(np.median(ok["first_output"] - ok["sent"]))
    chunks = int(np.median(ok["chunks"]))
    spent = float(np.median(ok["last_output"] - ok["first_output"]))
    return Cadence(first=first, gap=spent / max(1, chunks - 1), chunks=chunks)


def client_errors(
    records: Records, notes: Mapping[tuple[int, int], ServerTimestamps], *, streamed: bool
) -> dict[str, ClientError]:
    """By metric. `notes` are keyed by index and turn; empty where nothing can be matched."""
    differences: dict[str, list[float]] = {}
    ends = np.cumsum(records["chunks"])
    for row in range(len(records)):
        note = notes.get((int(records["index"][row]), int(records["turn"][row])))
        stamps = records.stamps[ends[row] - records["chunks"][row] : ends[row]]
        if (
            note is None
            or records["warmup"][row]
            or len(stamps) != len(note.writes)
            or not stamps.size
        ):
            continue
        _add(differences, records, row, stamps, note)
    if not streamed:
        for metric in ("ttft", "response_ttft", "tpot", "chunk_gap"):
            differences.pop(metric, None)
    return {metric: _error(np.array(values)) for metric, values in differences.items() if values}


def merge_client_errors(
    one: Mapping[str, ClientError], other: Mapping[str, ClientError]
) -> dict[str, ClientError]:
    """Number by number, of two measurements; a metric that only one of them has is its own."""
    both = {metric: one[metric].elementwise_max(other[metric]) for metric in one if metric in other}
    return {**one, **other, **both}


def widen_by_lag(
    errors: Mapping[str, ClientError], lag: Lag, tokens: int
) -> dict[str, ClientError]:
    """The errors, no smaller than how late the client was woken during the run itself.

    A time has two ends, and either may be stamped late: one in a hundred times is off by more than
    what one in two hundred wake-ups was late by, at most. Times per token divide that by the
    `tokens` of an answer.
    """
    parts = {"tpot": max(1, tokens - 1), "normalized_latency": max(1, tokens)}
    return {
        metric: _no_smaller(error, lag, parts.get(metric, 1)) for metric, error in errors.items()
    }


def median_output_tokens(records: Records) -> int:
    """The median; 0 where nothing was answered."""
    tokens = output_tokens(records.select(succeeded(records)))
    return int(np.median(tokens)) if len(tokens) else 0


def _no_smaller(error: ClientError, lag: Lag, parts: int) -> ClientError:
    return error.model_copy(
        update={
            "mean": max(error.mean, lag.mean / parts),
            "p99": max(error.p99, lag.p995 / parts),
            "p999": max(error.at("99.9"), lag.p9995 / parts),
            "max": max(error.max, lag.max / parts),
        }
    )


def _add(
    into: dict[str, list[float]], records: Records, row: int, stamps: Values, note: ServerTimestamps
) -> None:
    writes = np.array(note.writes)
    sent, late = records["sent"][row], records["sent"][row] - records["scheduled"][row]
    first = stamps[0] - sent - (writes[0] - note.received)
    last = stamps[-1] - sent - (writes[-1] - note.received)
    found: dict[str, list[float]] = {
        "ttft": [first],
        "ttfb": [first],
        "latency": [last],
        "response_ttft": [first + late],
        "response_latency": [last + late],
        "normalized_latency": [last / len(stamps)],
        "tpot": [(last - first) / (len(stamps) - 1)] if len(stamps) > 1 else [],
        "chunk_gap": (np.diff(stamps) - np.diff(writes)).tolist(),
    }
    for metric, values in found.items():
        into.setdefault(metric, []).extend(values)


def _error(values: Values) -> ClientError:
    size = np.sort(np.abs(values))
    return ClientError(
        bias=float(values.mean()),
        mean=float(size.mean()),
        p99=float(np.quantile(size, 0.99, method="higher")),
        p999=float(np.quantile(size, 0.999, method="higher")),
        max=float(size[-1]),
        count=len(size),
    )
