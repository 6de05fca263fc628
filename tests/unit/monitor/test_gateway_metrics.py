"""Parsing of the gateway's metrics."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxgate.monitor.gateway_metrics import parse_gateway_metrics
from maxgate.monitor.http_sources import metrics_url
from maxgate.monitor.snapshot import EngineState

METRICS = {
    "requests": {"by_outcome": {"ok": 2}, "in_flight": 1},
    "tokens": {"prompt": 20, "completion": 8, "cached": 0, "total": 28},
    "models": {
        name: {
            "latency_seconds": {"count": 1, "mean": 0.5, "buckets": [[0.4, 0.6, 1]]},
            "time_to_first_token_seconds": {"count": 0, "mean": None, "buckets": []},
            "time_per_output_token_seconds": {"count": 0, "mean": None},
        }
        for name in ("a", "b")
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
    """Histograms are merged over all models."""
    reading = parse_gateway_metrics(METRICS)
    assert reading.latency.buckets == ((0.4, 0.6, 2),)
    assert reading.latency.total == 1.0
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
