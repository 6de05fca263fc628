"""What it costs to carry tokens that come at their own pace."""

import time

from benchmarks.gateway.http_client import StandIn
from benchmarks.gateway.results import Sample
from benchmarks.gateway.streams import Streams
from benchmarks.gateway.subject import Bodies, Failed, Subject

_STREAMS, _GAP_MS, _MANY_TOKENS = 256, 10, 100_000


def paced(subject: Subject, bodies: Bodies, seconds: float) -> Sample:
    """CPU for every chunk that 256 streams bring, 10 ms apart."""
    subject.engine.follow(tokens=_MANY_TOKENS, gap_ms=_GAP_MS)
    aborted = subject.engine.counts()["aborted"]
    streams = Streams()
    try:
        streams.open(subject.target, bodies.streamed, _STREAMS, seconds=1)
        streams.read(0.5)
        cpu, events, began = subject.process.cpu_seconds(), streams.events, time.perf_counter()
        sent = subject.engine.counts()["chunks"]
        streams.read(seconds)
        sent = subject.engine.counts()["chunks"] - sent
        took = time.perf_counter() - began
        cpu, events = subject.process.cpu_seconds() - cpu, streams.events - events
    finally:
        streams.close()
    if events == 0:
        raise Failed("no chunk arrived")
    cancelled = _cancelled(subject.engine, aborted + _STREAMS)
    subject.engine.follow()
    return {
        "cpu_us": cpu / events * 1e6,
        "busy": cpu / took,
        "relayed": events / max(sent, 1),
        "cancelled": (cancelled - aborted) / _STREAMS,
    }


def _cancelled(engine: StandIn, expected: int) -> int:
    # A second is long: the connections have been closed already.
    end = time.monotonic() + 1
    while (aborted := int(engine.counts()["aborted"])) < expected and time.monotonic() < end:
        pass
    return aborted
