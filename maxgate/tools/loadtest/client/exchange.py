"""One request and what became of it."""

from array import array


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
