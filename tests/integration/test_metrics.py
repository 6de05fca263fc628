"""GET /metrics is what docs/metrics.md describes."""

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from maxgate.api.hot_route import HotRoute
from maxgate.app import create_app
from maxgate.settings import Settings
from maxgate.telemetry.reference import HISTOGRAM_KEYS, JSON_KEYS
from maxgate.telemetry.registry import GENERATION_ROUTES, METRICS
from tests.fakes.gateway import Gateway

SWITCHED_OFF = ("maxgate_host_", "maxgate_gpu_", "maxgate_certificate_")


@pytest.fixture
async def used_gateway(gateway: Gateway) -> Gateway:
    """A gateway that has served one stream."""
    response = await gateway.chat(stream=True)
    assert response.status_code == 200
    return gateway


async def test_prometheus(used_gateway: Gateway) -> None:
    """Exactly the declared metrics are exposed, with their type, help text and labels.

    Those of the host, its GPUs and certificates are switched off.
    """
    declared = [metric for metric in METRICS if not metric.name.startswith(SWITCHED_OFF)]
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
        metric.name: (metric.kind, metric.help) for metric in declared
    }
    for metric in declared:
        labels = {frozenset(label.name for label in metric.labels)}
        assert exposed[metric.name][2] <= labels, metric.name


async def test_json(used_gateway: Gateway) -> None:
    """Exactly the documented keys are returned, for the gateway, each model and each route."""
    document = (await used_gateway.client.get("/metrics?buckets=true")).json()
    assert list_keys(document) == set(JSON_KEYS)
    [model], [route] = document["models"].values(), document["routes"].values()
    assert (
        list_keys(model)
        == list_keys(route)
        == {
            key
            for key in JSON_KEYS
            if key.startswith(("requests", "tokens")) or key.endswith("_seconds")
            if key not in {"requests.in_flight", "uptime_seconds", "processes.cpu_seconds"}
        }
    )
    for key in ("latency_seconds", "time_to_first_token_seconds", "time_per_output_token_seconds"):
        assert set(document[key]) == set(HISTOGRAM_KEYS)


async def test_generation_routes(gateway: Gateway) -> None:
    """Requests to cheap routes do not change the times of generation."""
    await gateway.chat()
    await gateway.client.get("/v1/models")
    await gateway.client.get("/v1/models/smollm2")
    document = (await gateway.client.get("/metrics")).json()
    assert document["latency_seconds"]["count"] == 1
    assert {
        path: route["latency_seconds"]["count"] for path, route in document["routes"].items()
    } == {"/v1/chat/completions": 1, "/v1/models": 1, "/v1/models/{model}": 1}


def test_known_routes() -> None:
    """Every hot route generates text, computes embeddings or judges texts."""
    hot = {route.path for route in create_app(Settings()).routes if isinstance(route, HotRoute)}
    assert hot == GENERATION_ROUTES | {"/v1/embeddings", "/v1/moderations"}


def list_keys(document: dict[str, Any]) -> set[str]:
    """The documented keys: one level deep in `requests`, `tokens` and `processes`."""
    keys = set()
    for key, value in document.items():
        if key in {"requests", "tokens", "processes"}:
            keys |= {f"{key}.{inner}" for inner in value}
        else:
            keys.add(key)
    return keys
