"""Exception handlers of the FastAPI application: every error response has OpenAI's shape."""

import json
from typing import Any, Final

import structlog
from fastapi import FastAPI
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Router
from starlette.types import Scope

from maxgate.api.disconnect import CLIENT_CLOSED_REQUEST, ClientDisconnect
from maxgate.api.errors import (
    ErrorResponse,
    describe_validation_error,
    encode_error,
    error_headers,
    record_error,
)
from maxgate.errors import GatewayError, InternalError, MethodNotAllowed, NotFound
from maxgate.stores.identity import StoreUnavailable

ERROR_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    "4XX": {"model": ErrorResponse, "description": "The request cannot be served."},
    "5XX": {"model": ErrorResponse, "description": "The engine or the gateway failed."},
}
_log = structlog.get_logger("api")
_METHODS: Final = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")


class _StatusError(GatewayError):
    """An HTTPException raised by an endpoint, with its own status."""

    def __init__(self, error: HTTPException) -> None:
        detail: Any = error.detail  # FastAPI allows any JSON
        super().__init__(detail if isinstance(detail, str) else json.dumps(detail, default=str))
        self.status = error.status_code  # type: ignore[misc]  # of this one error
        self.type = "invalid_request_error" if error.status_code < 500 else "server_error"  # type: ignore[misc]
        self._headers = dict(error.headers or {})

    def headers(self) -> dict[str, str]:
        return self._headers


def add_error_handlers(app: FastAPI) -> None:
    """Render GatewayError, HTTPException, validation errors and bugs in OpenAI's shape.

    ClientDisconnect has no handler on purpose: Starlette would refuse to run one once a response
    has started. It passes through to RequestContextMiddleware.
    """
    app.add_exception_handler(GatewayError, _handle_gateway_error)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _handle_http_exception)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, _handle_validation_error)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, _handle_bug)


def allowed_methods(scope: Scope, router: Router) -> list[str]:
    """Return the methods that the router serves for the path of this request."""
    return [
        method
        for method in _METHODS
        if any(
            route.matches({**scope, "method": method})[0] is Match.FULL for route in router.routes
        )
    ]


async def _handle_gateway_error(request: Request, error: GatewayError) -> Response:
    if (context := getattr(request.state, "context", None)) is not None:
        record_error(context.record, error)
    if isinstance(error.__cause__, StoreUnavailable):  # the client is not told why
        _log.warning("a request needs the database", error=str(error.__cause__))
    headers = {name.decode(): value.decode() for name, value in error_headers(error)}
    return Response(encode_error(error), error.status, headers)


async def _handle_http_exception(request: Request, error: HTTPException) -> Response:
    status = error.status_code
    if status < 400:  # a redirect or a response without a body, not an error
        return await http_exception_handler(request, error)
    method, path = request.method[:20], str(request.scope["path"])[:200]
    if status == 404 and "endpoint" not in request.scope:
        return await _handle_gateway_error(
            request,
            NotFound(
                f"Unknown path: {method} {path}. The API begins with /v1, such as "
                "/v1/chat/completions; on the gateway's own port, GET /docs lists all routes."
            ),
        )
    if status == 405:
        methods = allowed_methods(request.scope, request.app.router)
        # An endpoint that was reached has raised the error itself.
        if methods and request.method not in methods:
            return await _handle_method_not_allowed(request, methods)
    return await _handle_gateway_error(request, _StatusError(error))


async def _handle_method_not_allowed(request: Request, methods: list[str]) -> Response:
    head = ["HEAD"] if "GET" in methods else []  # HeadMiddleware serves it
    allowed = ", ".join(sorted({*methods, *head}))
    if request.method == "OPTIONS":
        return Response(status_code=204, headers={"allow": f"{allowed}, OPTIONS"})
    method, path = request.method[:20], str(request.scope["path"])[:200]
    message = f"{method} is not allowed for {path}; use {allowed}."
    return await _handle_gateway_error(request, MethodNotAllowed(message, allowed=allowed))


async def _handle_validation_error(request: Request, error: RequestValidationError) -> Response:
    # The first step of a location names the place: query, path, header, cookie or body.
    place, *location = error.errors()[0]["loc"]
    param = None if place == "body" else ".".join(map(str, location))
    details: list[Any] = [{**detail, "loc": detail["loc"][1:]} for detail in error.errors()]
    return await _handle_gateway_error(request, describe_validation_error(details, param=param))


async def _handle_bug(request: Request, error: Exception) -> Response:
    # Starlette raises the error again after this, and RequestContextMiddleware records it.
    if isinstance(error, ClientDisconnect):
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    return await _handle_gateway_error(request, InternalError())
