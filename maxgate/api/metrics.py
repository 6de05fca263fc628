"""GET /metrics: JSON for people, Prometheus text for Prometheus. GET /metrics/vllm."""

from typing import Any, Final

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from maxgate.api.dependencies import Engines, Metrics, read_activity, reads_all_metrics
from maxgate.api.health import describe_engines
from maxgate.generation.catalog import ModelCatalog

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
        for_admin = reads_all_metrics(request)
        await store.refresh()
        activity = await read_activity(request) if for_admin else ()
        body, content_type = store.expose(samples, accept, activity, for_admin=for_admin)
        return Response(body, media_type=content_type)
    report = {**store.describe(buckets=buckets), "engines": describe_engines(engines)}
    return Response(orjson.dumps(report, option=orjson.OPT_INDENT_2), media_type="application/json")


@router.get(
    "/metrics/vllm",
    operation_id="metrics_vllm",
    response_class=PlainTextResponse,
)
async def metrics_vllm(request: Request, store: Metrics, engines: Engines) -> Response:
    """Report the load under the names of vLLM's metrics, for its autoscalers and dashboards."""
    catalog: ModelCatalog = request.app.state.catalog  # of all models, whatever the caller may use
    models = [
        (
            model.name,
            model.engine_name,
            [
                engine.kv_use
                for engine in engines
                if engine.kv_use is not None and model.engine_name in engine.models
            ],
        )
        for model in catalog.list()
    ]
    body, content_type = store.expose_as_vllm(models)
    return Response(body, media_type=content_type)
