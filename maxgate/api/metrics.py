"""GET /metrics: JSON for people, Prometheus text for Prometheus."""

from typing import Any, Final

import orjson
from fastapi import APIRouter, Request, Response

from maxgate.api.dependencies import Engines, Metrics, is_admin, read_activity
from maxgate.api.health import describe_engines

_PROMETHEUS_TYPES: Final = ("text/plain", "application/openmetrics-text")

router = APIRouter(tags=["operation"])


@router.get(
    "/metrics",
    operation_id="metrics",
    response_model=dict[str, Any],
    responses={200: {"content": {kind: {} for kind in _PROMETHEUS_TYPES}}},
)
async def metrics(
    request: Request, store: Metrics, engines: Engines, *, buckets: bool = False
) -> Response:
    """Report requests, latencies and tokens since the start, summed over all workers.

    JSON, or Prometheus text if the `Accept` header asks for it. Latencies are in seconds, with
    percentiles accurate to 2.2 %, and cover successful requests only. `buckets=true` adds the
    histograms' buckets, from which percentiles between two readings can be computed.
    """
    accept = ", ".join(request.headers.getlist("accept"))
    if any(kind in accept for kind in _PROMETHEUS_TYPES):
        samples = [
            (
                engine.url,
                engine.state == "healthy",
                engine.in_flight,
                engine.reported_requests,
                sum(state != "closed" for state in engine.breaker_states.values()),
            )
            for engine in engines
        ]
        for_admin = is_admin(request)
        await store.refresh()
        activity = await read_activity(request) if for_admin else ()
        body, content_type = store.expose(samples, accept, activity, for_admin=for_admin)
        return Response(body, media_type=content_type)
    report = {**store.describe(buckets=buckets), "engines": describe_engines(engines)}
    return Response(orjson.dumps(report, option=orjson.OPT_INDENT_2), media_type="application/json")
