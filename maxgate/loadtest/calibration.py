"""Calibration: the load generator's own timing error, measured against the mock server.

Both record times of the same monotonic clock, so the difference between them is the error of the
load generator and the loopback network. With few cores the mock server competes for CPU, which
overstates the error.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from maxgate.loadtest.analysis.metrics import count_output_tokens, succeeded
from maxgate.loadtest.messages import Lag, LoadShape
from maxgate.loadtest.mock_server.player import ServerTimestamps
from maxgate.loadtest.mock_server.script import Script
from maxgate.results.distribution import ClientError
from maxgate.results.records import Records

Values = NDArray[np.float64]

_MAX_RESPONSE_SECONDS: Final = 0.5  # longer mock responses are cut, not accelerated


@dataclass(frozen=True)
class Cadence:
    """Seconds to the first chunk, seconds between chunks, and the number of chunks."""

    first: float
    gap: float
    chunks: int

    def script(self) -> Script:
        """A script with the same cadence, limited to half a second."""
        chunks = max(1, self.chunks)
        if self.gap > 0:
            chunks = min(chunks, max(1, int(_MAX_RESPONSE_SECONDS / self.gap)))
        return Script(first=min(self.first, _MAX_RESPONSE_SECONDS / 2), gap=self.gap, chunks=chunks)

    def adapt_load(self, load: LoadShape, seconds: float) -> LoadShape:
        """The same load for `seconds`; a higher rate makes up for the chunks that were cut."""
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
    """The median cadence of the successful requests; that of a fast server if none succeeded."""
    ok = records.select(succeeded(records) & (records["chunks"] > 0))
    if not len(ok):
        return Cadence(first=0.02, gap=0.01, chunks=16)
    first = float(np.median(ok["first_output"] - ok["sent"]))
    chunks = int(np.median(ok["chunks"]))
    spent = float(np.median(ok["last_output"] - ok["first_output"]))
    return Cadence(first=first, gap=spent / max(1, chunks - 1), chunks=chunks)


def compute_client_errors(
    records: Records, timestamps: Mapping[tuple[int, int], ServerTimestamps], *, streamed: bool
) -> dict[str, ClientError]:
    """Errors by metric. `timestamps` are keyed by request index and turn."""
    differences: dict[str, list[float]] = {}
    ends = np.cumsum(records["chunks"])
    for row in range(len(records)):
        server = timestamps.get((int(records["index"][row]), int(records["turn"][row])))
        outputs = records.stamps[ends[row] - records["chunks"][row] : ends[row]]
        if server is None or records["warmup"][row]:
            continue
        if not outputs.size or len(outputs) != len(server.writes):
            continue
        for metric, values in _differences(records, row, outputs, server).items():
            differences.setdefault(metric, []).extend(values)
    if not streamed:
        for metric in ("ttft", "response_ttft", "tpot", "chunk_gap"):
            differences.pop(metric, None)
    return {
        metric: _summarize(np.array(values)) for metric, values in differences.items() if values
    }


def _differences(
    records: Records, row: int, outputs: Values, server: ServerTimestamps
) -> dict[str, list[float]]:
    """Measured minus true values of one request, by metric."""
    writes = np.array(server.writes)
    sent, late = records["sent"][row], records["sent"][row] - records["scheduled"][row]
    first = outputs[0] - sent - (writes[0] - server.received)
    last = outputs[-1] - sent - (writes[-1] - server.received)
    return {
        "ttft": [first],
        "ttfb": [first],
        "latency": [last],
        "response_ttft": [first + late],
        "response_latency": [last + late],
        "normalized_latency": [last / len(outputs)],
        "tpot": [(last - first) / (len(outputs) - 1)] if len(outputs) > 1 else [],
        "chunk_gap": (np.diff(outputs) - np.diff(writes)).tolist(),
    }


def _summarize(differences: Values) -> ClientError:
    size = np.sort(np.abs(differences))
    return ClientError(
        bias=float(differences.mean()),
        mean=float(size.mean()),
        p99=float(np.quantile(size, 0.99, method="higher")),
        p999=float(np.quantile(size, 0.999, method="higher")),
        max=float(size[-1]),
        count=len(size),
    )


def merge_client_errors(
    one: Mapping[str, ClientError], other: Mapping[str, ClientError]
) -> dict[str, ClientError]:
    """The larger value of each statistic, by metric."""
    both = {metric: one[metric].elementwise_max(other[metric]) for metric in one if metric in other}
    return {**one, **other, **both}


def widen_by_lag(
    errors: Mapping[str, ClientError], lag: Lag, output_tokens: int
) -> dict[str, ClientError]:
    """Errors of at least the lag of the worker processes during the run.

    An interval has two timestamps, so its P99 error is bounded by the P99.5 wake-up lag. Metrics
    per token divide the lag by the tokens of a response.
    """
    divisors = {"tpot": max(1, output_tokens - 1), "normalized_latency": max(1, output_tokens)}
    return {
        metric: _raise_to_lag(error, lag, divisors.get(metric, 1))
        for metric, error in errors.items()
    }


def _raise_to_lag(error: ClientError, lag: Lag, divisor: int) -> ClientError:
    return error.model_copy(
        update={
            "mean": max(error.mean, lag.mean / divisor),
            "p99": max(error.p99, lag.p995 / divisor),
            "p999": max(error.at("99.9"), lag.p9995 / divisor),
            "max": max(error.max, lag.max / divisor),
        }
    )


def median_output_tokens(records: Records) -> int:
    """Output tokens of the median successful request; 0 if none succeeded."""
    tokens = count_output_tokens(records.select(succeeded(records)))
    return int(np.median(tokens)) if len(tokens) else 0
