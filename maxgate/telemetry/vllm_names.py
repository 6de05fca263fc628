"""Exposition of a snapshot under the names of vLLM's metrics.

Autoscalers, endpoint pickers and dashboards made for vLLM then work with MAX. Every sample counts
the requests of this gateway, so that sums over several gateways are right; only the use of the KV
cache is the engines' own.
"""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Final, NamedTuple

import prometheus_client.core as prometheus
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry
from typing_extensions import override

from maxgate.telemetry.histogram import Histogram
from maxgate.telemetry.prometheus import expand_buckets
from maxgate.telemetry.registry import (
    GENERATION_ROUTES,
    MODEL,
    QUEUE_DURATION,
    QUEUE_LENGTH,
    REQUEST_DURATION,
    ROUTE,
    SLOTS_IN_USE,
    TIME_PER_OUTPUT_TOKEN,
    TIME_TO_FIRST_TOKEN,
    TOKEN_TYPE,
    TOKENS,
    Metric,
)
from maxgate.telemetry.snapshot import Selection, Snapshot

_LABEL: Final = "model_name"
_GENERATED: Final[Selection] = {ROUTE: GENERATION_ROUTES}
_HISTOGRAMS: Final[Sequence[tuple[str, str, Metric]]] = (
    (
        "vllm:time_to_first_token_seconds",
        "Time from arrival to the first token, for streams.",
        TIME_TO_FIRST_TOKEN,
    ),
    (
        "vllm:request_time_per_output_token_seconds",
        "Mean time per token after the first, for streams.",
        TIME_PER_OUTPUT_TOKEN,
    ),
    (
        "vllm:e2e_request_latency_seconds",
        "Time from arrival to the last response byte.",
        REQUEST_DURATION,
    ),
    (
        "vllm:request_queue_time_seconds",
        "Time that requests waited in the gateway's queue.",
        QUEUE_DURATION,
    ),
)


class ModelSample(NamedTuple):
    """A served model: its name here, its name at the engines, and the KV cache use of each.

    `kv_use` has a share from 0 to 1 for each engine that reports one.
    """

    name: str
    engine_name: str
    kv_use: Sequence[float] = ()


def exposition(snapshot: Snapshot, models: Sequence[ModelSample]) -> tuple[bytes, str]:
    """Text and content type, always in Prometheus's classic format.

    In OpenMetrics, prometheus_client replaces the colon of the names by an underscore.
    """
    registry = CollectorRegistry()
    registry.register(_VllmCollector(snapshot, models))
    return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4


class _VllmCollector(Collector):
    def __init__(self, snapshot: Snapshot, models: Sequence[ModelSample]) -> None:
        self._snapshot = snapshot
        self._models = models
        self._names = {model.engine_name: model.name for model in models}

    @override
    def collect(self) -> Iterable[prometheus.Metric]:
        snapshot = self._snapshot
        yield self._build_gauge(
            "vllm:num_requests_running",
            "Requests of this gateway at the engines.",
            snapshot.sum_counts(SLOTS_IN_USE, MODEL),
        )
        yield self._build_gauge(
            "vllm:num_requests_waiting",
            "Requests in the queue of this gateway.",
            snapshot.sum_counts(QUEUE_LENGTH, MODEL),
        )
        usage = prometheus.GaugeMetricFamily(
            "vllm:kv_cache_usage_perc",
            "Mean use of the engines' KV caches. 1 means 100 percent usage.",
            labels=[_LABEL],
        )
        for model in self._models:
            if model.kv_use:
                usage.add_metric([model.name], fmean(model.kv_use))
        yield usage
        for kind, name in (("prompt", "prompt_tokens"), ("completion", "generation_tokens")):
            yield self._build_tokens(kind, f"vllm:{name}")
        for name, text, metric in _HISTOGRAMS:
            yield self._build_histogram(name, text, metric)

    def _rename(self, samples: Mapping[str, int]) -> dict[str, int]:
        """Return samples by the names of served models, each of which has one.

        Requests that did not reach a model are left out.
        """
        renamed = dict.fromkeys((model.name for model in self._models), 0)
        for model, value in samples.items():
            if model:
                name = self._names.get(model, model)
                renamed[name] = renamed.get(name, 0) + value
        return renamed

    def _build_gauge(
        self, name: str, text: str, samples: Mapping[str, int]
    ) -> prometheus.GaugeMetricFamily:
        family = prometheus.GaugeMetricFamily(name, text, labels=[_LABEL])
        for model, value in sorted(self._rename(samples).items()):
            family.add_metric([model], value)
        return family

    def _build_tokens(self, kind: str, name: str) -> prometheus.CounterMetricFamily:
        text = f"Number of {name.removeprefix('vllm:').replace('_', ' ')} processed."
        family = prometheus.CounterMetricFamily(name, text, labels=[_LABEL])
        selection: Selection = {**_GENERATED, TOKEN_TYPE: [kind]}
        tokens = self._snapshot.sum_counts(TOKENS, MODEL, selection)
        for model, value in sorted(self._rename(tokens).items()):
            family.add_metric([model], value)
        return family

    def _build_histogram(
        self, name: str, text: str, metric: Metric
    ) -> prometheus.HistogramMetricFamily:
        family = prometheus.HistogramMetricFamily(name, text, labels=[_LABEL])
        at = metric.labels.index(MODEL)
        routes = {ROUTE: GENERATION_ROUTES} if ROUTE in metric.labels else {}
        for model in sorted({labels[at] for labels in self._snapshot.histograms[metric]} - {""}):
            selection: Selection = {**routes, MODEL: [model]}
            histogram = self._snapshot.sum_histograms(metric, selection)
            self._add_histogram(family, model, histogram)
        return family

    def _add_histogram(
        self, family: prometheus.HistogramMetricFamily, model: str, histogram: Histogram
    ) -> None:
        if any(histogram.counts):
            buckets = expand_buckets(histogram)
            family.add_metric([self._names.get(model, model)], buckets, histogram.total)
