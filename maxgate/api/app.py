"""The FastAPI application, with hot routes that are dispatched as plain ASGI.

FastAPI takes 25 to 40 µs of CPU to call an endpoint. Hot routes keep its documentation and skip
that cost (docs/decisions/0011-fastapi-is-the-application.md).
"""

import inspect
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from importlib.resources import files
from typing import Any, Final, TypeAlias

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Match
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send
from typing_extensions import override

from maxgate import __version__
from maxgate.api.error_handlers import ERROR_RESPONSES, add_error_handlers
from maxgate.api.middleware import HeadMiddleware, RequestContextMiddleware, get_route_path
from maxgate.clock import Clock
from maxgate.generation.request_record import RequestSink

Handler: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_DOCS_URL: Final = "/docs"
_DOCS_ASSETS_URL: Final = "/docs/assets"


class HotRoute(APIRoute):
    """A POST route that FastAPI documents and that is served as plain ASGI.

    `body` and `response` are the types in the OpenAPI document; the handler validates the body
    itself. `stream_type` is the content type of streamed responses.
    """

    def __init__(
        self,
        path: str,
        handler: Handler,
        *,
        body: type,
        response: Any,
        tag: str,
        stream_type: str | None = None,
    ) -> None:
        content: dict[int | str, Any] = {}
        if stream_type:
            content = {200: {"content": {stream_type: {}}}}
        super().__init__(
            path,
            _document(handler, body),
            methods=["POST"],
            tags=[tag],
            response_model=response,
            responses={**content, **ERROR_RESPONSES},
            operation_id=handler.__name__,
        )
        self.app = handler

    @override
    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http" or get_route_path(scope) != self.path:
            return Match.NONE, {}
        is_full = scope["method"] == "POST"
        return Match.FULL if is_full else Match.PARTIAL, {"route": self, "endpoint": self.endpoint}


def _document(handler: Handler, body: type) -> Callable[..., Any]:
    """Make a stand-in endpoint with the name, docstring and body type of the handler."""

    async def endpoint() -> None: ...

    parameter = inspect.Parameter("body", inspect.Parameter.KEYWORD_ONLY, annotation=body)
    endpoint.__name__ = handler.__name__
    endpoint.__doc__ = handler.__doc__
    endpoint.__signature__ = inspect.Signature([parameter])  # type: ignore[attr-defined]
    return endpoint


async def send_json(send: Send, body: bytes) -> None:
    """Send a complete JSON response with status 200."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


class Gateway(FastAPI):
    """A FastAPI application that records every request and dispatches hot routes first.

    Each request has a RequestContext at `request.state.context`. Errors have OpenAI's shape.
    """

    def __init__(
        self, *, sinks: Sequence[RequestSink], clock: Clock, lifespan: Lifespan[Any]
    ) -> None:
        super().__init__(
            title="maxgate",
            version=__version__,
            description="OpenAI-compatible gateway in front of MAX Serve.",
            responses=ERROR_RESPONSES,
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,
            lifespan=lifespan,
        )
        self._sinks = sinks
        self._clock = clock
        self._hot_handlers: dict[str, Handler] = {}
        add_error_handlers(self)
        self._own_error_handlers = dict(self.exception_handlers)
        self._add_docs()

    def add_hot_route(self, route: HotRoute) -> None:
        """Add a route that is dispatched ahead of FastAPI's middleware stack."""
        self.router.routes.append(route)
        self._hot_handlers[route.path] = route.app

    @override
    def build_middleware_stack(self) -> ASGIApp:
        stack = super().build_middleware_stack()
        # Middleware and error handlers that a user added must see hot routes too.
        if not self.user_middleware and self.exception_handlers == self._own_error_handlers:
            stack = _HotDispatch(self._hot_handlers, stack)
        stack = HeadMiddleware(stack, self.router)
        return RequestContextMiddleware(stack, self._sinks, self._clock)

    def _add_docs(self) -> None:
        """Serve Swagger UI from an installed package, so that it works without internet access."""
        assets = StaticFiles(directory=str(files("fastapi_offline") / "static"))
        self.mount(_DOCS_ASSETS_URL, assets, name="docs-assets")

        @self.get(_DOCS_URL, include_in_schema=False)
        async def docs(request: Request) -> HTMLResponse:
            root = request.scope.get("root_path", "").rstrip("/")
            return get_swagger_ui_html(
                openapi_url=f"{root}{self.openapi_url}",
                title=f"{self.title} API",
                swagger_js_url=f"{root}{_DOCS_ASSETS_URL}/swagger-ui-bundle.js",
                swagger_css_url=f"{root}{_DOCS_ASSETS_URL}/swagger-ui.css",
                swagger_favicon_url=f"{root}{_DOCS_ASSETS_URL}/favicon.png",
            )


class _HotDispatch:
    def __init__(self, handlers: dict[str, Handler], fallback: ASGIApp) -> None:
        self._handlers = handlers
        self._fallback = fallback

    def __call__(
        self, scope: MutableMapping[str, Any], receive: Receive, send: Send
    ) -> Awaitable[None]:
        if scope["type"] != "http" or scope["method"] != "POST":
            return self._fallback(scope, receive, send)
        path = get_route_path(scope)
        handler = self._handlers.get(path)
        if handler is None:
            return self._fallback(scope, receive, send)
        scope["state"]["context"].record.route = path
        return handler(scope, receive, send)
