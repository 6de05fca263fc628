"""Snapshots for tests, with only what a test is about."""

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

ENGINE = "http://127.0.0.1:8001/metrics"


def times(seconds: float, count: float) -> Histogram:
    """So many that took this long, give or take a hundredth."""
    return (
        Histogram((Bucket(seconds * 0.99, seconds, count),), seconds * count)
        if count
        else Histogram()
    )


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
    """A gateway that was started at second 0."""
    settings: dict[str, Any] = {
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
        latency=latency or times(0.2, ok),
        time_to_first_token=ttft or times(0.05, ok),
        time_per_output_token=times(0.01, ok),
        **(settings | fields),
    )


def engine(
    gauges: Mapping[str, float] | None = None,
    counters: Mapping[str, float] | None = None,
    **histograms: Histogram,
) -> EngineReading:
    """An engine with nothing to do."""
    idle = {"running": 1.0, "queued": 0.0, "kv_used_blocks": 5.0, "kv_total_blocks": 100.0}
    return EngineReading(ENGINE, idle | dict(gauges or {}), dict(counters or {}), histograms)


def host(at: float, *, cpu: float = 0.25, memory: int = 4) -> HostReading:
    """Two cores that are as busy as this."""
    return HostReading(2, 2 * at * cpu, 2 * at, memory, 10, 3, 10)


def gpu(utilisation: float = 0.5, *slowed_by: str) -> GpuReading:
    """One GPU."""
    return GpuReading(0, "H200", utilisation, 70, 140, 300.0, 60.0, slowed_by)


def snapshot(at: float, read: GatewayReading | None = None, **fields: Any) -> Snapshot:
    """One look at second `at` of the monitor's clock."""
    error = None if read else "no connection"
    return Snapshot(1_800_000_000 + at, at, read, error, **fields)
