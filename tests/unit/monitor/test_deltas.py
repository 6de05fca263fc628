"""Increases of counters across outages and restarts."""

from maxgate.monitor.deltas import (
    Delta,
    counter_increase,
    engine_delta,
    gateway_delta,
    histogram_increase,
)
from maxgate.monitor.histogram import Histogram
from maxgate.monitor.snapshot import EngineReading, GatewayReading
from tests.unit.monitor.examples import ENGINE_METRICS_URL, engine, gateway, histogram, snapshot


def test_gateway_delta_includes_outages() -> None:
    """Requests served while the gateway was unreachable are included."""
    first, last = gateway(10), gateway(20, ok=30)
    snapshots = [snapshot(10, first), snapshot(15), snapshot(20, last)]
    assert gateway_delta(snapshots) == Delta(10, first, last)


def test_gateway_delta_after_a_restart() -> None:
    """After a restart, the counters start at zero and the interval at the restart."""
    last = gateway(5, ok=29)
    delta = gateway_delta([snapshot(10, gateway(500, ok=900)), snapshot(20, last)])
    assert delta == Delta(5, GatewayReading(0, 0, 0, {}, {}), last)


def test_gateway_delta_while_unreachable() -> None:
    """An unreachable gateway has no delta."""
    assert gateway_delta([snapshot(1, gateway(1)), snapshot(2)]) is None
    assert gateway_delta([]) is None


def test_engine_delta_after_a_restart() -> None:
    """After a restart, the counters start at zero and the interval at the last reading before."""
    last = engine(counters={"output_tokens": 250})
    snapshots = [
        snapshot(at, engines=(reading,))
        for at, reading in (
            (0, engine(counters={"output_tokens": 1000})),
            (10, engine(counters={"output_tokens": 50})),
            (20, last),
        )
    ]
    assert engine_delta(snapshots, ENGINE_METRICS_URL) == Delta(
        20, EngineReading(ENGINE_METRICS_URL), last
    )


def test_engine_delta_while_unreadable() -> None:
    """An engine whose last reading failed has no delta."""
    failed = EngineReading(ENGINE_METRICS_URL, error="HTTP 404")
    snapshots = [snapshot(0, engines=(engine(),)), snapshot(1, engines=(failed,))]
    assert engine_delta(snapshots, ENGINE_METRICS_URL) is None


def test_unpublished_metrics() -> None:
    """A missing counter has no increase, and a missing histogram an empty one."""
    delta = Delta(1, engine(), engine(counters={"requests": 2}, batch_size=histogram(3, 2)))
    assert counter_increase(delta, "requests") == 2
    assert counter_increase(delta, "preemptions") is None
    assert histogram_increase([delta], "batch_size") == histogram(3, 2)
    assert histogram_increase([delta], "batch_time") == Histogram()


def test_rate_without_time() -> None:
    """A single reading gives no rate."""
    assert Delta(0, engine(), engine()).rate(5) is None
    assert Delta(2, engine(), engine()).rate(5) == 2.5
