"""Increases of cumulative counters between two snapshots."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Generic, TypeVar

from maxgate.monitor.histogram import Histogram, merge
from maxgate.monitor.snapshot import EngineReading, GatewayReading, Snapshot

T = TypeVar("T")

# The start time is computed from two clocks, the monitor's and the gateway's, and includes the
# response time of `/metrics`.
_START_TIME_TOLERANCE: Final = 2.0
_ZERO_GATEWAY: Final = GatewayReading(0, 0, 0, {}, {})


@dataclass(frozen=True, slots=True)
class Delta(Generic[T]):
    """Two readings of one source, `seconds` apart; 0 seconds if there is only one reading."""

    seconds: float
    first: T
    last: T

    def rate(self, count: float) -> float | None:
        """The count per second; None if no time passed."""
        return count / self.seconds if self.seconds > 0 else None


def gateway_delta(snapshots: Sequence[Snapshot]) -> Delta[GatewayReading] | None:
    """The change from the first reading to the last; None if the last snapshot has no reading.

    Outages in between are part of the interval. After a restart of the gateway, the interval
    starts at the restart, with all counters at zero.
    """
    if not snapshots or snapshots[-1].gateway is None:
        return None
    end, last = snapshots[-1].elapsed, snapshots[-1].gateway
    started = end - last.uptime
    readings = [(s.elapsed, s.gateway) for s in snapshots if s.gateway is not None]
    begin, first = readings[0]
    if abs(begin - first.uptime - started) > _START_TIME_TOLERANCE:
        return Delta(last.uptime, _ZERO_GATEWAY, last)
    return Delta(end - begin, first, last)


def engine_delta(snapshots: Sequence[Snapshot], url: str) -> Delta[EngineReading] | None:
    """The change of one engine; None if its last reading failed.

    After a restart, the interval starts at the last reading before it, with all counters at zero.
    """
    readings = [(s.elapsed, e) for s in snapshots for e in s.engines if e.url == url]
    if not readings or readings[-1][1].error is not None:
        return None
    successful = [(at, reading) for at, reading in readings if reading.error is None]
    (begin, first), (end, last) = successful[0], successful[-1]
    for (before_at, before), (_, after) in pairwise(successful):
        if any(after.counters.get(name, 0) < value for name, value in before.counters.items()):
            begin, first = before_at, EngineReading(url)
    return Delta(end - begin, first, last)


def counter_increase(delta: Delta[EngineReading], name: str) -> float | None:
    """The increase of a counter; None if the engine does not publish it."""
    if name not in delta.last.counters:
        return None
    return max(delta.last.counters[name] - delta.first.counters.get(name, 0), 0.0)


def histogram_increase(deltas: Iterable[Delta[EngineReading]], name: str) -> Histogram:
    """The values recorded by all engines, merged; empty if no engine publishes the histogram."""
    return merge(
        delta.last.histograms[name].since(delta.first.histograms.get(name, Histogram()))
        for delta in deltas
        if name in delta.last.histograms
    )
