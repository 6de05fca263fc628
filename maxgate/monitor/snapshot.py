"""Everything that was read at one moment.

Counters are as they were published, since the start of whoever counts; what happened between two
snapshots is worked out later, in spans.py. So a recording of snapshots loses nothing, and a pause
in which nobody could be asked hides nothing either.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from maxgate.monitor.histogram import Histogram


@dataclass(frozen=True, slots=True)
class EngineState:
    """An engine as the gateway sees it."""

    url: str
    state: str
    models: tuple[str, ...] = ()
    in_flight: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class GatewayReading:
    """The gateway's `/metrics`, all workers together; times in seconds.

    `cpu_seconds` and `resident_bytes` are None where its system does not tell.
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


@dataclass(frozen=True, slots=True)
class EngineReading:
    """MAX's own metrics by the names of max_metrics.py; what it does not publish is not there.

    Durations are in seconds. `error` says why nothing could be read.
    """

    url: str
    gauges: Mapping[str, float] = field(default_factory=dict)
    counters: Mapping[str, float] = field(default_factory=dict)
    histograms: Mapping[str, Histogram] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True, slots=True)
class HostReading:
    """The machine that the monitor runs on; processor times in seconds over all cores."""

    cores: int
    cpu_busy_seconds: float
    cpu_seconds: float
    memory_used: int
    memory_total: int
    disk_used: int
    disk_total: int


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One NVIDIA GPU; `slowed_by` names why its clocks are held down."""

    index: int
    name: str
    utilisation: float
    memory_used: int
    memory_total: int
    power_watts: float | None = None
    temperature_celsius: float | None = None
    slowed_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerReading:
    """One container; `throttled_periods` of `periods` scheduling periods hit its CPU limit."""

    name: str
    status: str
    cpu_seconds: float = 0.0
    memory_used: int = 0
    memory_limit: int = 0
    periods: int = 0
    throttled_periods: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One look at everything.

    `at` is seconds since 1970 for people, `elapsed` seconds of a monotonic clock for differences.
    `gateway` is None while it cannot be asked, and `gateway_error` says why.
    """

    at: float
    elapsed: float
    gateway: GatewayReading | None = None
    gateway_error: str | None = None
    engines: tuple[EngineReading, ...] = ()
    host: HostReading | None = None
    gpus: tuple[GpuReading, ...] = ()
    containers: tuple[ContainerReading, ...] = ()
