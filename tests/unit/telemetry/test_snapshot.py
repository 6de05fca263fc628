"""The JSON of /metrics."""

import pytest

from maxgate.telemetry.histogram import BUCKETS, upper_bound
from maxgate.telemetry.metrics_store import MetricsStore
from maxgate.telemetry.snapshot import Snapshot
from tests.fakes.clock import FakeClock
from tests.fakes.request_records import finished_record, send_records

EMPTY = {"count": 0, "mean": None, "p50": None, "p95": None, "p99": None}


CHAT = "/v1/chat/completions"


def test_totals() -> None:
    """Totals cover all routes and models; client errors are no errors of the gateway."""
    clock = FakeClock()
    store = MetricsStore(clock)
    store.request_started()
    send_records(
        store,
        finished_record(route=CHAT),
        finished_record(outcome="timeout", model="large"),
        finished_record(outcome="client_error", route="/v1/y"),
    )
    clock.advance(5)
    description = store.snapshot().describe()
    assert description["requests"] == {
        "count": 3,
        "errors": 1,
        "error_rate": 1 / 3,
        "by_outcome": {"ok": 1, "client_error": 1, "timeout": 1},
        "in_flight": 1,
    }
    assert description["tokens"] == {"prompt": 111, "completion": 15, "cached": 6, "total": 126}
    assert description["latency_seconds"] == {
        "count": 1,
        "mean": 1.0,
        "p50": pytest.approx(1, rel=0.022),
        "p95": pytest.approx(1, rel=0.022),
        "p99": pytest.approx(1, rel=0.022),
    }
    assert description["time_to_first_token_seconds"]["p99"] == pytest.approx(0.1, rel=0.022)
    assert description["time_per_output_token_seconds"]["mean"] == pytest.approx(0.1, abs=1e-9)
    assert (description["workers"], description["uptime_seconds"]) == (1, 5.0)


def test_routes() -> None:
    """The totals of times are those of generation; each route has its own."""
    store = MetricsStore(FakeClock())
    send_records(
        store,
        finished_record(route=CHAT, duration=8.0),
        finished_record(route="/v1/completions", duration=8.0),
        finished_record(route="/v1/embeddings", duration=0.01),
        *[finished_record(route="/v1/models", model=None, duration=0.001) for _ in range(96)],
        finished_record(route="/v1/models", model=None, outcome="internal_error"),
    )
    metrics = store.snapshot().describe()
    routes = metrics["routes"]
    assert {path: route["latency_seconds"]["p50"] for path, route in routes.items()} == {
        CHAT: pytest.approx(8, rel=0.022),
        "/v1/completions": pytest.approx(8, rel=0.022),
        "/v1/embeddings": pytest.approx(0.01, rel=0.022),
        "/v1/models": pytest.approx(0.001, rel=0.022),
    }
    assert routes["/v1/models"]["requests"] == {
        "count": 97,
        "errors": 1,
        "error_rate": 1 / 97,
        "by_outcome": {"ok": 96, "internal_error": 1},
    }
    assert (metrics["latency_seconds"]["count"], metrics["latency_seconds"]["p50"]) == (
        2,
        pytest.approx(8, rel=0.022),
    )
    assert metrics["time_to_first_token_seconds"]["count"] == 2
    assert metrics["requests"]["count"] == 100


def test_models() -> None:
    """Each model has its own counts over all routes; requests without a model are left out."""
    store = MetricsStore(FakeClock())
    send_records(
        store,
        finished_record(),
        finished_record(route="/v1/y"),
        finished_record(model="large"),
        finished_record(model=None),
    )
    models = store.snapshot().describe()["models"]
    assert {name: model["requests"]["count"] for name, model in models.items()} == {
        "large": 1,
        "small": 2,
    }
    assert models["small"]["requests"] == {
        "count": 2,
        "errors": 0,
        "error_rate": 0.0,
        "by_outcome": {"ok": 2},
    }
    assert models["small"]["tokens"] == {"prompt": 74, "completion": 10, "cached": 4, "total": 84}
    assert models["small"]["latency_seconds"]["count"] == 2


def test_nothing_counted() -> None:
    """Means and percentiles are null without requests, counts and rates are zero."""
    assert Snapshot().describe() == {
        "requests": {
            "count": 0,
            "errors": 0,
            "error_rate": 0.0,
            "by_outcome": {},
            "in_flight": 0,
        },
        "latency_seconds": EMPTY,
        "time_to_first_token_seconds": EMPTY,
        "time_per_output_token_seconds": EMPTY,
        "tokens": {"prompt": 0, "completion": 0, "cached": 0, "total": 0},
        "models": {},
        "routes": {},
        "workers": 0,
        "processes": None,
        "uptime_seconds": 0.0,
    }


def test_buckets() -> None:
    """Buckets have their bounds and counts; the last one has no upper bound."""
    store = MetricsStore(FakeClock())
    durations = (0.02, 0.02, 7000.0)
    send_records(store, *(finished_record(duration=seconds) for seconds in durations))
    small = store.snapshot().describe(buckets=True)["models"]["small"]
    (low, high, count), last = small["latency_seconds"]["buckets"]
    assert (low < 0.02 <= high, count) == (True, 2)
    assert last == (upper_bound(BUCKETS - 2), None, 1)
