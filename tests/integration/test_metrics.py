"""GET /metrics is what docs/metrics.md describes."""

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from maxgate.telemetry.reference import HISTOGRAM_KEYS, JSON_KEYS
from maxgate.telemetry.registry import METRICS
from tests.fakes.gateway import Gateway


@pytest.fixture
async def used_gateway(gateway: Gateway) -> Gateway:
    """A gateway that has served one stream."""
    response = await gateway.chat(stream=True)
    assert response.status_code == 200
    return gateway


async def test_prometheus(used_gateway: Gateway) -> None:
    """Exactly the declared metrics are exposed, with their type, help text and labels."""
    response = await used_gateway.client.get("/metrics", headers={"accept": "text/plain"})
    exposed = {
        family.name + ("_total" if family.type == "counter" else ""): (
            family.type,
            family.documentation,
            {frozenset(sample.labels) - {"le"} for sample in family.samples},
        )
        for family in text_string_to_metric_families(response.text)
    }
    assert {name: (kind, text) for name, (kind, text, _) in exposed.items()} == {
        metric.name: (metric.kind, metric.help) for metric in METRICS
    }
    for metric in METRICS:
        labels = {frozenset(label.name for label in metric.labels)}
        assert exposed[metric.name][2] <= labels, metric.name


async def test_json(used_gateway: Gateway) -> None:
    """Exactly the documented keys are returned, for the gateway and for each model."""
    document = (await used_gateway.client.get("/metrics?buckets=true")).json()
    assert list_keys(document) == set(JSON_KEYS)
    [model] = document["models"].values()
    assert list_keys(model) == {
        key
        for key in JSON_KEYS
        if key.startswith(("requests", "tokens")) or key.endswith("_seconds")
        if key not in {"requests.in_flight", "uptime_seconds", "processes.cpu_seconds"}
    }
    for key in ("latency_seconds", "time_to_first_token_seconds", "time_per_output_token_seconds"):
        assert set(document[key]) == set(HISTOGRAM_KEYS)


def list_keys(document: dict[str, Any]) -> set[str]:
    """The documented keys: one level deep in `requests`, `tokens` and `processes`."""
    keys = set()
    for key, value in document.items():
        if key in {"requests", "tokens", "processes"}:
            keys |= {f"{key}.{inner}" for inner in value}
        else:
            keys.add(key)
    return keys
