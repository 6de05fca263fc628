"""Parsing of the gateway's metrics."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxgate.monitor.gateway_metrics import parse_gateway_metrics
from maxgate.monitor.histogram import Bucket, Histogram
from maxgate.monitor.http_sources import metrics_url
from maxgate.monitor.snapshot import EngineState


def route(outcomes: dict[str, int], seconds: float, tokens: int) -> dict[str, object]:
    """A route whose requests took about `seconds` each."""
    count = outcomes["ok"]
    return {
        "requests": {"by_outcome": outcomes},
        "tokens": {"prompt": tokens, "completion": 4, "cached": 0, "total": tokens + 4},
        "latency_seconds": {
            "count": count,
            "mean": seconds,
            "buckets": [[seconds / 2, seconds, count]],
        },
        "time_to_first_token_seconds": {"count": 0, "mean": None, "buckets": []},
        "time_per_output_token_seconds": {"count": 0, "mean": None},
    }


METRICS = {
    "requests": {"by_outcome": {"ok": 108, "timeout": 1}, "in_flight": 1},
    "routes": {
        "/v1/chat/completions": route({"ok": 1, "timeout": 1}, 0.5, 10),
        "/v1/completions": route({"ok": 1}, 0.5, 10),
        "/v1/embeddings": route({"ok": 6}, 0.01, 50),
        "/v1/models": route({"ok": 100}, 0.001, 0),
    },
    "engines": [
        {
            "url": "http://max:8080",
            "state": "healthy",
            "models": ["a"],
            "in_flight": 1,
            "error": None,
        }
    ],
    "workers": 2,
    "processes": {"cpu_seconds": 3.5, "resident_bytes": 1000},
    "uptime_seconds": 60.0,
}


def test_reading() -> None:
    """Times and tokens are those of generation, and outcomes those of requests for models."""
    reading = parse_gateway_metrics(METRICS)
    assert reading.latency == Histogram((Bucket(0.25, 0.5, 2),), 1.0)
    assert reading.embedding_latency == Histogram((Bucket(0.005, 0.01, 6),), 0.06)
    assert reading.outcomes == {"ok": 8, "timeout": 1}
    assert reading.tokens == {"prompt": 20, "completion": 8, "cached": 0}
    assert (reading.workers, reading.uptime, reading.cpu_seconds) == (2, 60, 3.5)
    assert reading.engines == (EngineState("http://max:8080", "healthy", ("a",), 1),)


@pytest.mark.parametrize(
    "document", [{"requests": 3}, [], {**METRICS, "engines": [{"url": "http://max:http"}]}]
)
def test_other_documents(document: object) -> None:
    """Documents of other servers and invalid engine URLs are rejected."""
    with pytest.raises(ValueError, match="not a maxgate gateway"):
        parse_gateway_metrics(document)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=9,
)


@given(st.sampled_from(sorted(METRICS)), json_values)
def test_any_json(field: str, value: object) -> None:
    """Any JSON gives a reading with valid engine URLs, or a ValueError."""
    with suppress(ValueError):
        reading = parse_gateway_metrics({**METRICS, field: value})
        assert all(metrics_url(engine.url) for engine in reading.engines)
