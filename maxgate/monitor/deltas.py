"""From counters to what happened in a stretch of time."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Generic, TypeVar

from maxgate.monitor.histogram import Histogram
from maxgate.monitor.snapshot import EngineReading, GatewayReading, Snapshot

T = TypeVar("T")

# Two clocks are read, here and in the gateway, and an answer takes its time.
_SAME_START_SECONDS: Final = 2.0
_NOTHING: Final = GatewayReading(0, 0, 0, {}, {})


@dataclass(frozen=True, slots=True)
class Span(Generic[T]):
    """Two readings of one source; `seconds` is 0 where there is only one."""

    seconds: float
    first: T
    last: T

    def rate(self, count: float) -> float | None:
        """Per second; None without any time to count in."""
        return count / self.seconds if self.seconds > 0 else None


def gateway_span(snapshots: Sequence[Snapshot]) -> Span[GatewayReading] | None:
    """The longest span up to the last snapshot; None where the gateway could not be asked then.

    A gateway that has started anew within it has counted everything since, so that nothing it did
    is lost; times in which it was away are part of the span.
    """
    if not snapshots or snapshots[-1].gateway is None:
        return None
    end, last = snapshots[-1].elapsed, snapshots[-1].gateway
    started = end - last.uptime
    readings = [(s.elapsed, s.gateway) for s in snapshots if s.gateway is not None]
    at, first = readings[0]
    if abs(at - first.uptime - started) > _SAME_START_SECONDS:
        return Span(last.uptime, _NOTHING, last)
    return Span(end - at, first, last)


def engine_span(snapshots: Sequence[Snapshot], url: str) -> Span[EngineReading] | None:
    """The same for an engine; after a restart, what it has counted since."""
    readings = [(s.elapsed, e) for s in snapshots for e in s.engines if e.url == url]
    if not readings or readings[-1][1].error is not None:
        return None
    known = [(at, reading) for at, reading in readings if reading.error is None]
    (at, first), (end, last) = known[0], known[-1]
    for (before_at, before), (_, after) in pairwise(known):
        if _went_back(before, after):
            at, first = before_at, EngineReading(url)
    return Span(end - at, first, last)


def _went_back(before: EngineReading, after: EngineReading) -> bool:
    return any(after.counters.get(name, 0) < value for name, value in before.counters.items())


def counted(span: Span[EngineReading], name: str) -> float | None:
    """What a counter went up by; None where it is not published."""
    if name not in span.last.counters:
        return None
    return max(span.last.counters[name] - span.first.counters.get(name, 0), 0.0)


def recorded(spans: Iterable[Span[EngineReading]], name: str) -> list[Histogram]:
    """What each engine's histogram took in."""
    return [
        span.last.histograms[name].since(span.first.histograms.get(name, Histogram()))
        for span in spans
        if name in span.last.histograms
    ]
