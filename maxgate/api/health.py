"""GET /health, /health/live, /health/ready, and GET /auth for proxies."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fastapi import APIRouter, Response

from maxgate import __version__
from maxgate.api.dependencies import Catalog, Engines
from maxgate.generation.catalog import Capabilities, EngineHealth, PromptSource

Status = Literal["healthy", "degraded", "unhealthy"]


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """One engine. `in_flight` counts the requests that this worker has sent to it.

    `state` is `healthy`, `draining` (healthy, but drained, so that it gets no new requests),
    `unreachable` or `unknown`. `id` names it in the admin API; `draining` is also true for a
    drained engine that is not healthy. `breakers` are the states of this worker's circuit breakers
    by model, once there are several engines. `software` is `MAX` or the name of another engine's
    software; null until it has listed models. `watch_failures` counts unexpected errors in the
    gateway while it probed the engine.

    `capabilities` holds the engine's capabilities per model; null means not known yet.
    `abilities` is their old name, kept for one version.
    """

    id: str
    url: str
    state: str
    draining: bool
    weight: float
    breakers: dict[str, str]
    software: str | None
    models: list[str]
    in_flight: int
    watch_failures: int
    error: str | None
    capabilities: dict[str, Capabilities]
    abilities: dict[str, Capabilities]


@dataclass(frozen=True, slots=True)
class HealthResponse:
    """`healthy` with all engines, `degraded` with some, `unhealthy` (status 503) with none.

    Engines that are drained do not count, because they get no requests. Without any engine, all
    models are started on demand.

    `prompts` states for each model where prompts become token ids. With `engine`, text of users can
    become special tokens; with `unavailable`, the model is not served.
    """

    status: Status
    version: str
    engines: list[EngineStatus]
    models: list[str]
    prompts: dict[str, PromptSource]


@dataclass(frozen=True, slots=True)
class ProbeResponse:
    """Response to a probe, which only reads the status code."""

    status: Literal["ok", "not ready"]


router = APIRouter(tags=["operation"])


@router.get("/health", operation_id="health")
async def health(engines: Engines, catalog: Catalog, response: Response) -> HealthResponse:
    """Report the state of the gateway and of each engine."""
    status = _summarize(engines)
    response.status_code = 503 if status == "unhealthy" else 200
    prompts = {model.name: model.prompts for model in catalog.list()}
    return HealthResponse(status, __version__, describe_engines(engines), list(prompts), prompts)


@router.get("/health/live", operation_id="live")
async def live() -> ProbeResponse:
    """Respond as long as the process runs."""
    return ProbeResponse("ok")


@router.get("/health/ready", operation_id="ready")
async def ready(engines: Engines, response: Response) -> ProbeResponse:
    """Respond with 200 while an engine is healthy and not drained, otherwise with 503.

    Also with 200 if all models are started on demand and none runs.
    """
    if _summarize(engines) == "unhealthy":
        response.status_code = 503
        return ProbeResponse("not ready")
    return ProbeResponse("ok")


@router.get("/auth", operation_id="auth", status_code=204)
async def check_credential() -> None:
    """Respond with 204 if the credential may use models, otherwise with 401 or 403.

    For proxies that check a request before they read its body, such as nginx with `auth_request`.
    Without authentication, the response is always 204.
    """
    # RequestContextMiddleware has authenticated the request.


def describe_engines(engines: Sequence[EngineHealth]) -> list[EngineStatus]:
    """Convert engine states to their JSON shape."""
    return [
        EngineStatus(
            id=engine.id,
            url=engine.url,
            state="draining" if engine.draining and engine.state == "healthy" else engine.state,
            draining=engine.draining,
            weight=engine.weight,
            breakers=engine.breaker_states,
            software=engine.software,
            models=sorted(engine.models),
            in_flight=engine.in_flight,
            watch_failures=engine.watch_failures,
            error=engine.error,
            capabilities=dict(engine.capabilities),
            abilities=dict(engine.capabilities),
        )
        for engine in engines
    ]


def _summarize(engines: Sequence[EngineHealth]) -> Status:
    serving = [engine for engine in engines if not engine.draining]
    healthy = sum(engine.state == "healthy" for engine in serving)
    if healthy == 0 and engines:
        return "unhealthy"
    return "healthy" if healthy == len(serving) else "degraded"
