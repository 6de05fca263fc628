"""One sample of every source, as published.

Counters are cumulative since the start of their process; deltas.py computes increases between two
snapshots. A recording of snapshots is therefore lossless, and nothing is lost while a source is
unreachable.

The field names of these classes are keys in recorded files and in `--json`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from maxgate.hardware.gpus import GpuReading
from maxgate.hardware.host import HostReading
from maxgate.monitor.histogram import Histogram


@dataclass(frozen=True, slots=True)
class EngineState:
    """An engine as the gateway reports it."""

    url: str
    state: str
    models: tuple[str, ...] = ()
    in_flight: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class GatewayReading:
    """The gateway's `/metrics`, summed over all workers; times in seconds.

    `outcomes` are those of requests for models; `tokens` and times other than `embedding_latency`
    are those of generation. Recordings of older versions mix all of them.
    `cpu_seconds` and `resident_bytes` are None if the gateway does not report them.
    """

    uptime: float
    workers: int
    in_flight: int
    outcomes: Mapping[str, int]
    tokens: Mapping[str, int]
    latency: Histogram = field(default_factory=Histogram)
    time_to_first_token: Histogram = field(default_factory=Histogram)
    time_per_output_token: Histogram = field(default_factory=Histogram)
    cpu_seconds: float | None = None
    resident_bytes: int | None = None
    engines: tuple[EngineState, ...] = ()
    embedding_latency: Histogram = field(default_factory=Histogram)


@dataclass(frozen=True, slots=True)
class EngineReading:
    """MAX's own metrics under the names in max_metrics.py; unpublished metrics are missing.

    Durations are in seconds. `error` is set if the metrics could not be read.
    """

    url: str
    gauges: Mapping[str, float] = field(default_factory=dict)
    counters: Mapping[str, float] = field(default_factory=dict)
    histograms: Mapping[str, Histogram] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ContainerReading:
    """One container; it hit its CPU limit in `throttled_periods` of `periods` CFS periods."""

    name: str
    status: str
    cpu_seconds: float = 0.0
    memory_used: int = 0
    memory_limit: int = 0
    periods: int = 0
    throttled_periods: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Readings of all sources, taken together.

    `at` is Unix time in seconds, for display; `elapsed` is seconds on a monotonic clock, for
    differences. If the gateway is unreachable, `gateway` is None and `gateway_error` says why.
    """

    at: float
    elapsed: float
    gateway: GatewayReading | None = None
    gateway_error: str | None = None
    engines: tuple[EngineReading, ...] = ()
    host: HostReading | None = None
    gpus: tuple[GpuReading, ...] = ()
    containers: tuple[ContainerReading, ...] = ()
