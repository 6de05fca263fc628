"""Exception handlers of the FastAPI application: every error response has OpenAI's shape."""

from typing import Any, Final

from fastapi import FastAPI
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

ERROR_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    "4XX": {"model": ErrorResponse, "description": "The request cannot be served."},
    "5XX": {"model": ErrorResponse, "description": "The engine or the gateway failed."},
}
_METHODS: Final = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")


class _StatusError(GatewayError):
    """An HTTPException raised by an endpoint, with its own status."""

    def __init__(self, error: HTTPException) -> None:
        super().__init__(str(error.detail))
        self.status = error.status_code  # type: ignore[misc]  # of this one error
        self.type = "invalid_request_error" if error.status_code < 500 else "server_error"  # type: ignore[misc]
        self._headers = dict(error.headers or {})

    def headers(self) -> dict[str, str]:
        return self._headers


def add_error_handlers(app: FastAPI) -> None:
    """Render GatewayError, HTTPException, validation errors and bugs in OpenAI's shape."""
    app.add_exception_handler(GatewayError, _handle_gateway_error)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _handle_http_exception)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, _handle_validation_error)  # type: ignore[arg-type]
    app.add_exception_handler(ClientDisconnect, _handle_disconnect)
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
    headers = {name.decode(): value.decode() for name, value in error_headers(error)}
    return Response(encode_error(error), error.status, headers)


async def _handle_http_exception(request: Request, error: HTTPException) -> Response:
    method, path = request.method[:20], request.url.path[:200]
    if error.status_code == 405:
        methods = allowed_methods(request.scope, request.app.router)
        allowed = ", ".join(sorted({*methods, *(["HEAD"] if "GET" in methods else [])}))
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"allow": f"{allowed}, OPTIONS"})
        return await _handle_gateway_error(
            request,
            MethodNotAllowed(
                f"{method} is not allowed for {path}; use {allowed}.", allowed=allowed
            ),
        )
    if error.status_code == 404 and error.detail == "Not Found":  # no route, as Starlette says it
        return await _handle_gateway_error(
            request, NotFound(f"Unknown path: {method} {path}. GET /docs lists all routes.")
        )
    return await _handle_gateway_error(request, _StatusError(error))


async def _handle_validation_error(request: Request, error: RequestValidationError) -> Response:
    # The first step of a location names the place: query, path, header or body.
    details: list[Any] = [{**detail, "loc": detail["loc"][1:]} for detail in error.errors()]
    return await _handle_gateway_error(request, describe_validation_error(details))


async def _handle_disconnect(request: Request, error: Exception) -> Response:  # noqa: ARG001
    request.state.context.record.outcome = "client_gone"
    return Response(status_code=CLIENT_CLOSED_REQUEST)


async def _handle_bug(request: Request, error: Exception) -> Response:  # noqa: ARG001
    # Starlette raises the error again, and RequestContextMiddleware logs it.
    return await _handle_gateway_error(request, InternalError())
