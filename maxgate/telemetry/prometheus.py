"""Exposition of a snapshot in the text formats of Prometheus and OpenMetrics.

Histogram bounds are 0.00125 s, doubling up to 81.92 s. They include those of OpenTelemetry's GenAI
conventions, which start at 0.01 s.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import prometheus_client.core as prometheus
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry
from typing_extensions import override

from maxgate.telemetry.histogram import BUCKETS, EXPOSED_BUCKETS, Histogram, upper_bound
from maxgate.telemetry.metrics_store import MetricsStore
from maxgate.telemetry.registry import (
    ACTIVE_USERS,
    COST_PER_REQUEST,
    ENGINE_BREAKERS_OPEN,
    ENGINE_REQUESTS_IN_FLIGHT,
    ENGINE_REQUESTS_ORPHANED,
    ENGINE_REQUESTS_OWN,
    ENGINE_UP,
    METRICS,
    PROCESS_CPU_SECONDS,
    PROCESS_MAX_FILES,
    PROCESS_OPEN_FILES,
    PROCESS_RESIDENT_MEMORY,
    REQUESTS_PER_USER,
    REVENUE_PER_REQUEST,
    WORKERS,
    LabelValues,
    Metric,
)
from maxgate.telemetry.snapshot import Snapshot
from maxgate.telemetry.system import SystemReader, SystemReadings

if TYPE_CHECKING:  # part of tracing, which is off by default
    from maxgate.telemetry.exemplars import Exemplar, Exemplars, ExemplarStore

_BILLION: Final = 1_000_000_000
_NO_EXEMPLARS: "Final[Mapping[int, Exemplar]]" = MappingProxyType({})
_Bucket: TypeAlias = tuple[str, float] | tuple[str, float, prometheus.Exemplar]
"""Upper bound, observations up to it, and an example of them."""

_Samples = Mapping[LabelValues, float]
_NO_SYSTEM: Final[SystemReadings] = {}


class EngineSample(NamedTuple):
    """The state of one engine.

    `reported` are the requests by its own metrics, if known; `breakers_open` the models whose
    circuit breaker is not closed.
    """

    url: str
    healthy: bool
    in_flight: int
    reported: int | None = None
    breakers_open: int = 0


class ActivitySample(NamedTuple):
    """Users of the last minutes or hours; amounts are in the currency, per request."""

    window: str
    users: int
    requests: int
    cost: float
    price: float


class MetricsReader:
    """Renders the metrics of all workers as JSON or as Prometheus text."""

    def __init__(
        self,
        store: MetricsStore,
        system: SystemReader | None = None,
        exemplars: "ExemplarStore | None" = None,
    ) -> None:
        self._store = store
        self._system = system
        self._readings: SystemReadings = {}
        self._exemplars = exemplars

    async def refresh(self) -> None:
        """Read the host, its GPUs and certificates again, as far as they are exported."""
        if self._system is not None:
            self._readings = await self._system.read()

    def describe(self, *, buckets: bool) -> dict[str, Any]:
        """Return the JSON report, with histogram buckets if asked for."""
        return self._store.snapshot().describe(buckets=buckets)

    def expose(
        self,
        engines: Sequence[tuple[str, bool, int, int | None, int]],
        accept: str,
        activity: Sequence[tuple[str, int, int, float, float]] = (),
        *,
        for_admin: bool = True,
    ) -> tuple[bytes, str]:
        """Return the Prometheus text and its content type, as `exposition` does."""
        samples = [EngineSample(*engine) for engine in engines]
        users = [ActivitySample(*window) for window in activity]
        snapshot = self._store.snapshot()
        exemplars = {} if self._exemplars is None else self._exemplars.read()
        return exposition(
            snapshot,
            samples,
            accept,
            users,
            for_admin=for_admin,
            system=self._readings,
            exemplars=exemplars,
        )

    def expose_as_vllm(
        self, models: Sequence[tuple[str, str, Sequence[float]]]
    ) -> tuple[bytes, str]:
        """Return the Prometheus text under vLLM's names, and its content type."""
        from maxgate.telemetry import vllm_names  # noqa: PLC0415  # only who asks pays for it

        samples = [vllm_names.ModelSample(*model) for model in models]
        return vllm_names.exposition(self._store.snapshot(), samples)


def exposition(
    snapshot: Snapshot,
    engines: Sequence[EngineSample],
    accept: str,
    activity: Sequence[ActivitySample] = (),
    *,
    for_admin: bool = True,
    system: SystemReadings = _NO_SYSTEM,
    exemplars: "Exemplars" = MappingProxyType({}),
) -> tuple[bytes, str]:
    """Text and content type, in the format that the `Accept` header prefers.

    Only OpenMetrics has a place for exemplars.
    """
    encode, content_type = choose_encoder(accept)
    registry = CollectorRegistry()
    computed = {**_compute_samples(snapshot, engines), **_compute_activity(activity), **system}
    registry.register(_SnapshotCollector(snapshot, computed, exemplars, for_admin=for_admin))
    return encode(registry), content_type


class _SnapshotCollector(Collector):
    def __init__(
        self,
        snapshot: Snapshot,
        computed: Mapping[Metric, _Samples],
        exemplars: "Exemplars",
        *,
        for_admin: bool,
    ) -> None:
        self._snapshot = snapshot
        self._exemplars = exemplars
        self._metrics = [metric for metric in METRICS if for_admin or not metric.for_admins]
        self._computed = computed

    @override
    def collect(self) -> Iterable[prometheus.Metric]:
        for metric in self._metrics:
            if metric.kind == "histogram":
                exemplars = self._exemplars.get(metric, {})
                yield _build_histogram(metric, self._snapshot.histograms[metric], exemplars)
            elif metric.stored:
                yield _build_family(metric, self._snapshot.counts[metric])
            elif metric in self._computed:
                yield _build_family(metric, self._computed[metric])


def _compute_samples(
    snapshot: Snapshot, engines: Sequence[EngineSample]
) -> Mapping[Metric, _Samples]:
    """Values of the metrics that workers do not store."""
    own = snapshot.counts[ENGINE_REQUESTS_OWN]
    samples: dict[Metric, _Samples] = {
        WORKERS: {(): snapshot.workers},
        ENGINE_UP: {(engine.url,): float(engine.healthy) for engine in engines},
        ENGINE_BREAKERS_OPEN: {(engine.url,): engine.breakers_open for engine in engines},
        ENGINE_REQUESTS_IN_FLIGHT: {(engine.url,): engine.in_flight for engine in engines},
        ENGINE_REQUESTS_ORPHANED: {
            (engine.url,): max(engine.reported - own.get((engine.url,), 0), 0)
            for engine in engines
            if engine.reported is not None
        },
    }
    if snapshot.processes is not None:
        samples[PROCESS_CPU_SECONDS] = {(): snapshot.processes.cpu_seconds}
        samples[PROCESS_RESIDENT_MEMORY] = {(): snapshot.processes.resident_bytes}
        if snapshot.processes.max_files:
            samples[PROCESS_OPEN_FILES] = {(): snapshot.processes.open_files}
            samples[PROCESS_MAX_FILES] = {(): snapshot.processes.max_files}
    return samples


def _compute_activity(activity: Sequence[ActivitySample]) -> Mapping[Metric, _Samples]:
    return {
        ACTIVE_USERS: {(one.window,): one.users for one in activity},
        REQUESTS_PER_USER: {(one.window,): one.requests / max(one.users, 1) for one in activity},
        COST_PER_REQUEST: {(one.window,): one.cost for one in activity},
        REVENUE_PER_REQUEST: {(one.window,): one.price for one in activity},
    }


def _build_family(metric: Metric, samples: _Samples) -> prometheus.Metric:
    names = [label.name for label in metric.labels]
    scale = _BILLION if metric.stored and metric.unit == "currency" else 1
    family: prometheus.CounterMetricFamily | prometheus.GaugeMetricFamily
    if metric.kind == "counter":
        family = prometheus.CounterMetricFamily(metric.name, metric.help, labels=names)
    else:
        family = prometheus.GaugeMetricFamily(metric.name, metric.help, labels=names)
    for values, value in sorted(samples.items()):
        if value or not metric.sparse:
            family.add_metric(values, value / scale)
    return family


def _build_histogram(
    metric: Metric,
    samples: Mapping[LabelValues, Histogram],
    exemplars: "Mapping[LabelValues, Mapping[int, Exemplar]]",
) -> prometheus.HistogramMetricFamily:
    names = [label.name for label in metric.labels]
    family = prometheus.HistogramMetricFamily(metric.name, metric.help, labels=names)
    for values, histogram in sorted(samples.items(), key=lambda sample: sample[0]):
        if any(histogram.counts):
            buckets = expand_buckets(histogram, exemplars.get(values, _NO_EXEMPLARS))
            family.add_metric(values, buckets, histogram.total)
    return family


def expand_buckets(
    histogram: Histogram, exemplars: "Mapping[int, Exemplar]" = _NO_EXEMPLARS
) -> list[_Bucket]:
    """Return the upper bounds of the exposed buckets, and the observations up to each."""
    up_to = list(accumulate(histogram.counts))
    return [
        _build_bucket(bucket, up_to[bucket], exemplars.get(position))
        for position, bucket in enumerate([*EXPOSED_BUCKETS, BUCKETS - 1])
    ]


def _build_bucket(bucket: int, count: int, exemplar: "Exemplar | None") -> _Bucket:
    bound = "+Inf" if bucket == BUCKETS - 1 else f"{upper_bound(bucket):.12g}"
    if exemplar is None:
        return bound, float(count)
    labels = {"trace_id": exemplar.trace_id}
    return bound, float(count), prometheus.Exemplar(labels, exemplar.seconds, exemplar.at)
