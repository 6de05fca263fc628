"""One request and what became of it."""

from array import array
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from maxgate.results.records import Records


class Exchange:
    """The stamps and counts of one request; seconds of the monotonic clock, 0 for never.

    `scheduled` is when it was to leave, `sent` when the client started to send it: a connection
    that has to be opened first belongs to the server's time. `outputs` are the arrivals of the
    non-empty pieces of output, `held` how many seconds earlier each of them may have been there.
    `error` is None for a success.
    """

    __slots__ = (
        "answer_text",
        "cached_tokens",
        "chunks",
        "connect",
        "ended",
        "error",
        "finished",
        "first_byte",
        "first_event",
        "held",
        "index",
        "input_tokens",
        "keep_text",
        "output_tokens",
        "outputs",
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
        self.start_over()

    def start_over(self) -> None:
        """Forget what has arrived, as before it is sent again; when it was sent stays."""
        self.first_byte = 0.0
        self.first_event = 0.0
        self.ended = 0.0
        self.outputs = array("d")
        self.held = array("d")
        self.shared = 0
        self.chunks = 0
        self.status = 0
        self.input_tokens = -1
        self.output_tokens = -1
        self.cached_tokens = -1
        self.finished = False
        self.error: str | None = None
        self.answer_text: list[str] = []


def records_of(exchanges: Sequence[Exchange], *, start: float, worker: int) -> Records:
    """One row per exchange; times are counted from `start`."""
    kinds = ["", *sorted({e.error for e in exchanges if e.error})]
    places = {kind: place for place, kind in enumerate(kinds)}

    def times(stamps: list[float]) -> NDArray[np.float64]:
        column = np.array(stamps, np.float64)
        return np.where(column == 0, np.nan, column - start)

    def counts(values: list[int]) -> NDArray[np.int64]:
        return np.array(values, np.int64)

    columns = {
        "scheduled": times([e.scheduled for e in exchanges]),
        "sent": times([e.sent for e in exchanges]),
        "first_byte": times([e.first_byte for e in exchanges]),
        "first_event": times([e.first_event for e in exchanges]),
        "first_output": times([e.outputs[0] if e.outputs else 0.0 for e in exchanges]),
        "last_output": times([e.outputs[-1] if e.outputs else 0.0 for e in exchanges]),
        "ended": times([e.ended for e in exchanges]),
        "connect": np.array([e.connect or np.nan for e in exchanges], np.float64),
        "index": counts([e.index for e in exchanges]),
        "turn": counts([e.turn for e in exchanges]),
        "side": counts([e.side for e in exchanges]),
        "worker": np.full(len(exchanges), worker),
        "warmup": counts([e.warmup for e in exchanges]),
        "status": counts([e.status for e in exchanges]),
        "input_tokens": counts([e.input_tokens for e in exchanges]),
        "output_tokens": counts([e.output_tokens for e in exchanges]),
        "cached_tokens": counts([e.cached_tokens for e in exchanges]),
        "chunks": counts([e.chunks for e in exchanges]),
        "shared": counts([e.shared for e in exchanges]),
        "error": counts([places[e.error or ""] for e in exchanges]),
    }
    stamps = np.concatenate([np.empty(0), *(np.array(e.outputs) for e in exchanges)]) - start
    held = np.concatenate([np.empty(0), *(np.array(e.held) for e in exchanges)])
    return Records(columns, stamps, held, kinds)
