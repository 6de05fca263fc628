"""Metrics under vLLM's names."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from maxgate.telemetry.metrics_store import MetricsStore
from maxgate.telemetry.prometheus import MetricsReader
from tests.fakes.clock import FakeClock
from tests.fakes.request_records import finished_record, send_records


def read(store: MetricsStore, *models: tuple[str, str, tuple[float, ...]]) -> dict[str, float]:
    """Return the samples without buckets, by name and model."""
    text, _ = MetricsReader(store).expose_as_vllm(models)
    return {
        f"{sample.name}{{{sample.labels['model_name']}}}": sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if "le" not in sample.labels
    }


def test_load() -> None:
    """Slots in use run, all classes wait, and the use of the engines' caches is a mean."""
    store = MetricsStore(FakeClock())
    store.set_slots("org/Small", 8, 7, {"flex": 2, "default": 3})
    assert read(store, ("small", "org/Small", (0.25, 0.75))) == {
        "vllm:num_requests_running{small}": 7,
        "vllm:num_requests_waiting{small}": 5,
        "vllm:kv_cache_usage_perc{small}": 0.5,
        "vllm:prompt_tokens_total{small}": 0,
        "vllm:generation_tokens_total{small}": 0,
    }


def test_idle_models() -> None:
    """A model without requests has zeros, and no cache use while its engines report none."""
    samples = read(MetricsStore(FakeClock()), ("small", "small", ()))
    assert samples == {
        "vllm:num_requests_running{small}": 0,
        "vllm:num_requests_waiting{small}": 0,
        "vllm:prompt_tokens_total{small}": 0,
        "vllm:generation_tokens_total{small}": 0,
    }


def test_finished_requests() -> None:
    """Tokens and times are those of requests for text; embeddings and unknown models have none."""
    store = MetricsStore(FakeClock())
    send_records(
        store,
        finished_record(duration=2.0, route="/v1/chat/completions"),
        finished_record(duration=3.0, route="/v1/completions"),
        finished_record(duration=9.0, route="/v1/embeddings"),
        finished_record(model=None, outcome="client_error"),
    )
    samples = read(store, ("small", "small", ()))
    assert {name: value for name, value in samples.items() if "running" not in name} == {
        "vllm:num_requests_waiting{small}": 0,
        "vllm:prompt_tokens_total{small}": 74,
        "vllm:generation_tokens_total{small}": 10,
        "vllm:time_to_first_token_seconds_count{small}": 2,
        "vllm:time_to_first_token_seconds_sum{small}": pytest.approx(0.2),
        "vllm:request_time_per_output_token_seconds_count{small}": 2,
        "vllm:request_time_per_output_token_seconds_sum{small}": pytest.approx(0.2),
        "vllm:e2e_request_latency_seconds_count{small}": 2,
        "vllm:e2e_request_latency_seconds_sum{small}": 5.0,
        "vllm:request_queue_time_seconds_count{small}": 3,
        "vllm:request_queue_time_seconds_sum{small}": 0.75,
    }
