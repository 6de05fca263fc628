"""GET /metrics: JSON for people, Prometheus text for Prometheus."""

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qs

import orjson

from maxgate.api.health import EngineHealth
from maxgate.api.request_body import Receive, Scope, Send
from maxgate.api.routing import Route, send_json
from maxgate.telemetry.metrics_store import MetricsStore
from maxgate.telemetry.prometheus import exposition

_PROMETHEUS_TYPES = ("text/plain", "application/openmetrics-text")


def metrics_routes(
    store: MetricsStore, engines: Callable[[], Sequence[EngineHealth]]
) -> list[Route]:
    """The route that says what has been counted, by all workers together."""

    async def metrics(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
        """Show requests, latencies and tokens since the start.

        JSON, or Prometheus text where the `Accept` header asks for it. Latencies are in seconds,
        percentiles within 2.2 %; only requests that went well are timed. With `?buckets=true` the
        histograms come with their buckets, so that what lies between two readings can be told.
        """
        accept = _accept(scope)
        snapshot = store.snapshot()
        states = engines()
        if any(kind in accept for kind in _PROMETHEUS_TYPES):
            up = [(e.url, e.state == "healthy", e.in_flight) for e in states]
            body, content_type = exposition(snapshot, up, accept)
            await send_json(send, body, content_type=content_type.encode())
            return
        buckets = parse_qs(scope["query_string"]).get(b"buckets") == [b"true"]
        description = {**snapshot.describe(buckets=buckets), "engines": states}
        await send_json(send, orjson.dumps(description, option=orjson.OPT_INDENT_2))

    return [
        Route(
            "GET",
            "/metrics",
            metrics,
            tag="operation",
            response=dict[str, Any],
            also=_PROMETHEUS_TYPES,
        )
    ]


def _accept(scope: Scope) -> str:
    values = [value.decode("latin-1") for name, value in scope["headers"] if name == b"accept"]
    return ", ".join(values)
