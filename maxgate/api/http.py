"""The HTTP application: the routes, the OpenAPI page, and errors in one shape."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NoReturn

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException

from maxgate import __version__
from maxgate.api.middleware import RequestScope
from maxgate.api.routing import DocumentedRoute
from maxgate.clock import Clock
from maxgate.errors import InvalidRequest, MethodNotAllowed, NotFound
from maxgate.telemetry.recorder import Recorder

# Asked every few seconds, by probes and dashboards.
_UNRECORDED = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def http_app(
    routes: Sequence[DocumentedRoute], *, recorder: Recorder, clock: Clock, lifespan: Lifespan
) -> FastAPI:
    """A FastAPI application that serves these routes and documents them at /docs."""
    app = FastAPI(
        title="maxgate",
        version=__version__,
        description="OpenAI-compatible gateway in front of MAX Serve.",
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,
    )
    for route in routes:
        route.allowed = ", ".join(sorted(r.method for r in routes if r.path == route.path))
    app.router.routes.extend(routes)
    app.add_exception_handler(HTTPException, _raise_ours)
    app.add_middleware(RequestScope, recorder=recorder, clock=clock, unrecorded=_UNRECORDED)
    return app


async def _raise_ours(request: Request, error: Exception) -> NoReturn:
    # Starlette raises these for paths and methods that no route has; RequestScope answers ours.
    status = error.status_code if isinstance(error, HTTPException) else 500
    path, method = request.scope["path"], request.scope["method"]
    if status == 404:
        raise NotFound(f"Unknown path: {method} {path[:200]}. GET /docs lists what there is.")
    if status == 405:  # the OpenAPI page's own routes
        raise MethodNotAllowed(f"{method[:20]} is not allowed for {path[:200]}.", allowed="GET")
    raise InvalidRequest("The request cannot be served.")
