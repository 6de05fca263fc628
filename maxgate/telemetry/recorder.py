"""One fact per request, many listeners."""

from collections.abc import Sequence
from typing import Protocol

from maxgate.generation.trace import RequestTrace


class Sink(Protocol):
    """Someone who wants to know of requests."""

    def request_started(self) -> None:
        """A request has arrived."""
        ...

    def request_finished(self, trace: RequestTrace) -> None:
        """A request is over; called once for each that was started."""
        ...


class Recorder:
    """Tells every sink."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = sinks

    def request_started(self) -> None:
        """See Sink."""
        for sink in self._sinks:
            sink.request_started()

    def request_finished(self, trace: RequestTrace) -> None:
        """See Sink."""
        for sink in self._sinks:
            sink.request_finished(trace)
