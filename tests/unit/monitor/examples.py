"""Builders of readings and snapshots; a test sets only the fields that it is about."""

from collections.abc import Mapping
from typing import Any

from maxgate.monitor.histogram import Bucket, Histogram
from maxgate.monitor.snapshot import (
    EngineReading,
    EngineState,
    GatewayReading,
    GpuReading,
    HostReading,
    Snapshot,
)

ENGINE_METRICS_URL = "http://127.0.0.1:8001/metrics"


def histogram(seconds: float, count: float) -> Histogram:
    """A histogram of equal durations, in one bucket that ends at them and is 1 % wide."""
    if not count:
        return Histogram()
    return Histogram((Bucket(seconds * 0.99, seconds, count),), seconds * count)


def gateway(
    at: float,
    *,
    ok: int = 0,
    failed: int = 0,
    latency: Histogram | None = None,
    ttft: Histogram | None = None,
    prompt_each: int = 100,
    output_each: int = 10,
    **fields: Any,
) -> GatewayReading:
    """A gateway that started at second 0."""
    defaults: dict[str, Any] = {
        "uptime": at,
        "workers": 1,
        "in_flight": 2,
        "cpu_seconds": 0.1 * at,
        "resident_bytes": 2**27,
        "engines": (EngineState("http://127.0.0.1:8000", "healthy", ("small",), 2),),
    }
    return GatewayReading(
        outcomes={"ok": ok, "timeout": failed, "client_error": 1},
        tokens={"prompt": prompt_each * ok, "completion": output_each * ok, "cached": 0},
        latency=latency or histogram(0.2, ok),
        time_to_first_token=ttft or histogram(0.05, ok),
        time_per_output_token=histogram(0.01, ok),
        **(defaults | fields),
    )


def engine(
    gauges: Mapping[str, float] | None = None,
    counters: Mapping[str, float] | None = None,
    **histograms: Histogram,
) -> EngineReading:
    """An engine with one running request."""
    defaults = {"running": 1.0, "queued": 0.0, "kv_used_blocks": 5.0, "kv_total_blocks": 100.0}
    return EngineReading(
        ENGINE_METRICS_URL, defaults | dict(gauges or {}), dict(counters or {}), histograms
    )


def host(at: float, *, cpu: float = 0.25, memory: int = 4) -> HostReading:
    """A host with two cores at this utilisation, and 10 bytes of memory."""
    return HostReading(2, 2 * at * cpu, 2 * at, memory, 10, 3, 10)


def gpu(utilisation: float = 0.5, *slowed_by: str) -> GpuReading:
    """One GPU with half of its memory in use."""
    return GpuReading(0, "H200", utilisation, 70, 140, 300.0, 60.0, slowed_by)


def snapshot(at: float, reading: GatewayReading | None = None, **fields: Any) -> Snapshot:
    """A snapshot at second `at`; without a reading the gateway is unreachable."""
    error = None if reading else "connection failed"
    return Snapshot(1_800_000_000 + at, at, reading, error, **fields)
