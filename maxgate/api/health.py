"""GET /health, /health/live, /health/ready."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import orjson

from maxgate import __version__
from maxgate.api.request_body import Receive, Scope, Send
from maxgate.api.routing import Route, send_json
from maxgate.generation.catalog import Capabilities, ModelCatalog

Status = Literal["healthy", "degraded", "unhealthy"]


@dataclass(frozen=True, slots=True)
class EngineHealth:
    """One engine; `in_flight` counts the requests that this worker has sent to it.

    `capabilities` tells, for each model, what its engine can do; null where that is not known.
    `abilities` is the same under its old name, which goes away in the next version.
    """

    url: str
    state: str
    models: list[str]
    in_flight: int
    error: str | None
    capabilities: dict[str, Capabilities]
    abilities: dict[str, Capabilities]


@dataclass(frozen=True, slots=True)
class HealthResponse:
    """`healthy` with all engines, `degraded` with some, `unhealthy` (and 503) with none."""

    status: Status
    version: str
    engines: list[EngineHealth]
    models: list[str]


@dataclass(frozen=True, slots=True)
class ProbeResponse:
    """The answer to a probe that only looks at the status code."""

    status: Literal["ok", "not ready"]


def health_routes(
    engines: Callable[[], Sequence[EngineHealth]], catalog: ModelCatalog
) -> list[Route]:
    """The routes that say how the gateway is."""

    async def health(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
        """Say how the gateway and each of its engines are."""
        states = engines()
        status = _status(states)
        body = HealthResponse(
            status, __version__, list(states), [model.name for model in catalog.list()]
        )
        await send_json(send, orjson.dumps(body), status=503 if status == "unhealthy" else 200)

    async def live(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
        """Answer as long as the process runs."""
        await send_json(send, orjson.dumps(ProbeResponse("ok")))

    async def ready(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
        """Answer 200 while at least one engine can be asked, 503 otherwise."""
        if _status(engines()) == "unhealthy":
            await send_json(send, orjson.dumps(ProbeResponse("not ready")), status=503)
        else:
            await send_json(send, orjson.dumps(ProbeResponse("ok")))

    return [
        Route("GET", "/health", health, tag="operation", response=HealthResponse),
        Route("GET", "/health/live", live, tag="operation", response=ProbeResponse),
        Route("GET", "/health/ready", ready, tag="operation", response=ProbeResponse),
    ]


def _status(engines: Sequence[EngineHealth]) -> Status:
    healthy = sum(engine.state == "healthy" for engine in engines)
    if healthy == 0:
        return "unhealthy"
    return "healthy" if healthy == len(engines) else "degraded"
