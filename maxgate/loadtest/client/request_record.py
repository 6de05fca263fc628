"""The record of one request, and the conversion of many into columns."""

from array import array
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from maxgate.results.records import Records


class RequestRecord:
    """Timestamps and counts of one request; monotonic seconds, 0 for an event that did not happen.

    - `scheduled`: planned departure. `sent`: start of sending, before a connection is opened if
      one is needed, so that connecting counts as the server's time.
    - `outputs`: arrival of each non-empty output. `arrival_uncertainty`: by how many seconds each
      of them may have arrived earlier.
    - `shared`: outputs that arrived in the same read as the one before.
    - `error`: None for a success. `failure`: the start of the text that explains the error.
    """

    __slots__ = (
        "arrival_uncertainty",
        "cached_tokens",
        "chunks",
        "connect",
        "ended",
        "error",
        "failure",
        "finished",
        "first_byte",
        "first_event",
        "index",
        "input_tokens",
        "keep_text",
        "output_tokens",
        "outputs",
        "response_text",
        "scheduled",
        "sent",
        "shared",
        "side",
        "status",
        "stream",
        "turn",
        "warmup",
    )

    def __init__(
        self, index: int, *, turn: int = 0, side: int = 0, stream: bool, scheduled: float
    ) -> None:
        self.index = index
        self.turn = turn
        self.side = side
        self.stream = stream
        self.scheduled = scheduled
        self.warmup = False
        self.keep_text = False
        self.sent = 0.0
        self.connect = 0.0
        self.reset()

    def reset(self) -> None:
        """Discard what has arrived, before a retry; `sent` stays."""
        self.first_byte = 0.0
        self.first_event = 0.0
        self.ended = 0.0
        self.outputs = array("d")
        self.arrival_uncertainty = array("d")
        self.shared = 0
        self.chunks = 0
        self.status = 0
        self.input_tokens = -1
        self.output_tokens = -1
        self.cached_tokens = -1
        self.finished = False
        self.error: str | None = None
        self.failure = b""
        self.response_text: list[str] = []


def build_records(requests: Sequence[RequestRecord], *, start: float, worker: int) -> Records:
    """One row per request; times become seconds since `start`."""
    kinds = ["", *sorted({r.error for r in requests if r.error})]
    codes = {kind: code for code, kind in enumerate(kinds)}

    def times(stamps: list[float]) -> NDArray[np.float64]:
        column = np.array(stamps, np.float64)
        return np.where(column == 0, np.nan, column - start)

    def counts(values: list[int]) -> NDArray[np.int64]:
        return np.array(values, np.int64)

    columns = {
        "scheduled": times([r.scheduled for r in requests]),
        "sent": times([r.sent for r in requests]),
        "first_byte": times([r.first_byte for r in requests]),
        "first_event": times([r.first_event for r in requests]),
        "first_output": times([r.outputs[0] if r.outputs else 0.0 for r in requests]),
        "last_output": times([r.outputs[-1] if r.outputs else 0.0 for r in requests]),
        "ended": times([r.ended for r in requests]),
        "connect": np.array([r.connect or np.nan for r in requests], np.float64),
        "index": counts([r.index for r in requests]),
        "turn": counts([r.turn for r in requests]),
        "side": counts([r.side for r in requests]),
        "worker": np.full(len(requests), worker),
        "warmup": counts([r.warmup for r in requests]),
        "status": counts([r.status for r in requests]),
        "input_tokens": counts([r.input_tokens for r in requests]),
        "output_tokens": counts([r.output_tokens for r in requests]),
        "cached_tokens": counts([r.cached_tokens for r in requests]),
        "chunks": counts([r.chunks for r in requests]),
        "shared": counts([r.shared for r in requests]),
        "error": counts([codes[r.error or ""] for r in requests]),
    }
    stamps = np.concatenate([np.empty(0), *(np.array(r.outputs) for r in requests)]) - start
    uncertainty = np.concatenate(
        [np.empty(0), *(np.array(r.arrival_uncertainty) for r in requests)]
    )
    return Records(columns, stamps, uncertainty, kinds)
