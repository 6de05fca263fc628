"""Parses MAX's Prometheus metrics.

The names are those of MAX 26.7. Every metric is optional: MAX publishes a family only after its
first value, and names differ between versions.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from maxgate.monitor.histogram import Histogram, from_cumulative
from maxgate.monitor.snapshot import EngineReading

_GAUGES: Final = {
    "maxserve_num_requests_running": "running",
    "maxserve_num_requests_queued": "queued",
    "maxserve_num_requests_awaiting_admission": "awaiting_admission",
    "maxserve_num_responses_buffered": "responses_buffered",
    "maxserve_cache_num_used_blocks": "kv_used_blocks",
    "maxserve_cache_num_total_blocks": "kv_total_blocks",
}
_COUNTERS: Final = {
    "maxserve_request_count_total": "requests",
    "maxserve_num_input_tokens_total": "input_tokens",
    "maxserve_num_output_tokens_total": "output_tokens",
    "maxserve_cache_hits_tokens_total": "cache_hit_tokens",
    "maxserve_cache_misses_tokens_total": "cache_miss_tokens",
    "maxserve_cache_preemption_count_total": "preemptions",
}
_MILLISECONDS: Final = 0.001
_HISTOGRAMS: Final = {
    "maxserve_time_to_first_token_milliseconds": ("time_to_first_token", _MILLISECONDS),
    "maxserve_time_per_output_token_milliseconds": ("time_per_output_token", _MILLISECONDS),
    "maxserve_response_queue_time_milliseconds": ("response_queue_time", _MILLISECONDS),
    "maxserve_input_processing_time_milliseconds": ("input_processing", _MILLISECONDS),
    "maxserve_batch_size": ("batch_size", 1.0),
    "maxserve_batch_execution_time_milliseconds": ("batch_time", _MILLISECONDS),
    "maxserve_cache_used_kv_pct_percent": ("kv_used_share", 0.01),
}
# CE: context encoding (prefill). TG: token generation (decode).
_BATCH_SUFFIXES: Final = {"CE": "_prefill", "TG": "_decode"}


def parse_max_metrics(url: str, text: str) -> EngineReading:
    """Parse the metrics of one engine, with durations converted to seconds.

    Raises ValueError if the text is not in Prometheus format or has no metrics of MAX.
    """
    families = list(text_string_to_metric_families(text))
    if not any(family.name.startswith("maxserve_") for family in families):
        raise ValueError("no MAX metrics")
    samples = [sample for family in families for sample in family.samples]
    histograms: dict[str, Histogram] = {}
    for family in families:
        if family.name in _HISTOGRAMS:
            histograms |= _parse_histograms(family)
    return EngineReading(
        url,
        gauges=_sum_samples(samples, _GAUGES),
        counters=_sum_samples(samples, _COUNTERS),
        histograms=histograms,
    )


def split_queue(gauges: Mapping[str, float], most_running: float | None) -> dict[str, float]:
    """Return the gauges with `running` for the requests in batches only, as MAX counts all.

    A reading lacks `queued` if MAX's scheduler has made no step since the one before. Then as many
    requests run as have run before, at most; `most_running` is None if that is not known.
    """
    requests = gauges.get("running")
    queued = gauges.get("queued")
    if requests is None or (queued is None and most_running is None):
        return dict(gauges)
    admitted = max(requests - gauges.get("awaiting_admission", 0.0), 0.0)
    running = min(admitted, most_running or 0.0) if queued is None else max(admitted - queued, 0.0)
    return {**gauges, "running": running, "queued": admitted - running}


def _sum_samples(samples: Iterable[Sample], names: Mapping[str, str]) -> dict[str, float]:
    labelled: dict[str, float] = {}
    unlabelled: dict[str, float] = {}
    for sample in samples:
        name = names.get(sample.name)
        if name is not None:
            target = labelled if sample.labels else unlabelled
            target[name] = target.get(name, 0.0) + sample.value
    # If MAX publishes a total next to its parts, the total has no labels and takes precedence.
    return labelled | unlabelled


def _parse_histograms(family: Metric) -> dict[str, Histogram]:
    name, scale = _HISTOGRAMS[family.name]
    bounds: dict[str, dict[float, float]] = {}
    totals: dict[str, float] = {}
    for sample in family.samples:
        key = name + _BATCH_SUFFIXES.get(sample.labels.get("batch_type", ""), "")
        if sample.name.endswith("_bucket"):
            counts = bounds.setdefault(key, {})
            bound = float(sample.labels["le"])
            counts[bound] = counts.get(bound, 0.0) + sample.value
        elif sample.name.endswith("_sum"):
            totals[key] = totals.get(key, 0.0) + sample.value
    return {
        key: from_cumulative(list(counts.items()), totals.get(key, 0.0), scale=scale)
        for key, counts in bounds.items()
    }
