"""The counts as Prometheus reads them.

Names are `maxgate_` and base units; labels come from fixed sets. Histogram bounds are those of
OpenTelemetry's GenAI conventions, 0.01 s doubling to 81.92 s.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from maxgate.telemetry.histogram import BUCKETS, STEPS_PER_OCTAVE, upper_bound
from maxgate.telemetry.snapshot import Histogram, Snapshot

_BOUNDS: Final = range(4 * STEPS_PER_OCTAVE, 21 * STEPS_PER_OCTAVE, STEPS_PER_OCTAVE)
_LABELS: Final = ("route", "model")
_HELP: Final = {
    "duration": ("request_duration_seconds", "From arrival to the last byte of the answer."),
    "time_to_first_token": (
        "time_to_first_token_seconds",
        "From arrival to the first token of a stream.",
    ),
    "time_per_output_token": (
        "time_per_output_token_seconds",
        "Mean time of a token after the first, per streamed answer.",
    ),
}

EngineStates = Callable[[], Sequence[tuple[str, bool, int]]]
"""Per engine: its address, whether it is healthy, and its requests in flight from this worker."""


def exposition(
    snapshot: Snapshot, engines: Sequence[tuple[str, bool, int]], accept: str
) -> tuple[bytes, str]:
    """Text and content type, in the format that the `Accept` header asks for."""
    encode, content_type = choose_encoder(accept)
    registry = CollectorRegistry()
    registry.register(_SnapshotCollector(snapshot, engines))
    return encode(registry), content_type


class _SnapshotCollector(Collector):
    def __init__(self, snapshot: Snapshot, engines: Sequence[tuple[str, bool, int]]) -> None:
        self._snapshot = snapshot
        self._engines = engines

    def collect(self) -> Iterable[Metric]:
        yield self._gauge("requests_in_flight", "Being answered now.", self._snapshot.in_flight)
        yield self._gauge("workers", "Worker processes running.", self._snapshot.workers)
        yield from self._process_usage()
        yield from self._engine_gauges()
        yield self._requests()
        yield self._tokens()
        for timing in _HELP:
            yield self._histogram(timing)

    @staticmethod
    def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"maxgate_{name}", text, value=value)

    def _process_usage(self) -> Iterable[Metric]:
        usage = self._snapshot.processes
        if usage is not None:
            yield CounterMetricFamily(
                "maxgate_process_cpu_seconds",
                "Processor time of the running workers.",
                value=usage.cpu_seconds,
            )
            yield self._gauge(
                "process_resident_memory_bytes", "Memory of the workers.", usage.resident_bytes
            )

    def _engine_gauges(self) -> Iterable[Metric]:
        up = GaugeMetricFamily(
            "maxgate_engine_up", "1 if the engine is healthy.", labels=["engine"]
        )
        in_flight = GaugeMetricFamily(
            "maxgate_engine_requests_in_flight",
            "Sent to the engine by the worker that was asked, and not answered yet.",
            labels=["engine"],
        )
        for url, healthy, running in self._engines:
            up.add_metric([url], float(healthy))
            in_flight.add_metric([url], running)
        return up, in_flight

    def _requests(self) -> CounterMetricFamily:
        family = CounterMetricFamily(
            "maxgate_requests", "Requests that are over.", labels=[*_LABELS, "outcome"]
        )
        for series in self._snapshot.series:
            for outcome, count in series.outcomes.items():
                if count:
                    family.add_metric([series.route, series.model, outcome], count)
        return family

    def _tokens(self) -> CounterMetricFamily:
        family = CounterMetricFamily("maxgate_tokens", "Tokens.", labels=[*_LABELS, "type"])
        for series in self._snapshot.series:
            for kind, count in series.tokens.items():
                family.add_metric([series.route, series.model, kind], count)
        return family

    def _histogram(self, timing: str) -> HistogramMetricFamily:
        name, text = _HELP[timing]
        family = HistogramMetricFamily(f"maxgate_{name}", text, labels=_LABELS)
        for series in self._snapshot.series:
            histogram = series.timings[timing]
            if any(histogram.counts):
                family.add_metric(
                    [series.route, series.model], _cumulative(histogram), histogram.total
                )
        return family


def _cumulative(histogram: Histogram) -> list[tuple[str, float]]:
    up_to = list(accumulate(histogram.counts))
    buckets = [(f"{upper_bound(bucket):.12g}", float(up_to[bucket])) for bucket in _BOUNDS]
    return [*buckets, ("+Inf", float(up_to[BUCKETS - 1]))]
