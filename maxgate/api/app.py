"""The FastAPI application: ordinary routes, hot routes, documentation and error handlers."""

from collections.abc import Sequence
from typing import Any, Final

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Match
from starlette.types import ASGIApp, Lifespan
from typing_extensions import override

from maxgate import __version__
from maxgate.api.admin_listener import AdminListener
from maxgate.api.authentication import Authentication
from maxgate.api.browsers import BrowserGuard
from maxgate.api.client_headers import SESSION, ClientHeaders
from maxgate.api.error_handlers import ERROR_RESPONSES, add_error_handlers
from maxgate.api.hot_route import HotRoute
from maxgate.api.loopback import AdminGuard, PublicCors
from maxgate.api.middleware import (
    BeginTrace,
    FormatPrice,
    HeadMiddleware,
    HotDispatchMiddleware,
    RequestContextMiddleware,
    UnversionedPathMiddleware,
)
from maxgate.api.pages import ASSETS_URL, DOCS_URL, Assets, render_docs
from maxgate.api.proxies import TrustedProxies
from maxgate.clock import Clock
from maxgate.generation.context import RequestContext, UsageLedger
from maxgate.generation.request_record import RequestSink
from maxgate.limits.limit import RATE_LIMIT_HEADERS, EdgeLimits

EXPOSED_HEADERS: Final = (
    "x-request-id",
    "x-maxgate-queue-ms",
    "x-maxgate-cost",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    *RATE_LIMIT_HEADERS,
)
"""Response headers that the pages of `cors_origins` may read."""


class Gateway(FastAPI):
    """A FastAPI application that records every request and dispatches hot routes first.

    Each request has a RequestContext at `request.state.context`. Errors have OpenAI's shape.
    `allowed_hosts` and `cors_origins` are for web browsers, see BrowserGuard. `session_header`
    names sessions, see ClientHeaders. `running` is kept equal to the requests that have not ended.
    With `authentication`, requests need a credential; without `serves_everyone`, they must arrive
    at a loopback address. `limits` are checked before a body is read, and describe themselves in
    the responses. `format_price` prices responses that are not streamed. The requests of hot routes
    are in the `ledger`, if there is one. `begin_trace` begins the trace of each request. The admin
    API is at `admin_port` only, if that is set.
    """

    def __init__(
        self,
        *,
        sinks: Sequence[RequestSink],
        clock: Clock,
        lifespan: Lifespan[Any],
        allowed_hosts: Sequence[str] = ("*",),
        cors_origins: Sequence[str] = (),
        format_price: FormatPrice | None = None,
        session_header: str = SESSION,
        running: set[RequestContext] | None = None,
        authentication: Authentication | None = None,
        limits: EdgeLimits | None = None,
        proxies: TrustedProxies | None = None,
        serves_everyone: bool = True,
        admin_port: int | None = None,
        ledger: UsageLedger | None = None,
        begin_trace: BeginTrace | None = None,
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
        self._browsers = BrowserGuard(allowed_hosts, cors_origins)
        self._cors_origins = cors_origins
        self._format_price = format_price
        self._client_headers = ClientHeaders(session_header, identifies=authentication is None)
        self._running = running
        self._authentication = authentication
        self._limits = limits
        self._serves_everyone = serves_everyone
        self._admin_port = admin_port
        self._ledger = ledger
        self._begin_trace = begin_trace
        add_error_handlers(self)
        self._own_error_handlers = dict(self.exception_handlers)
        self.state.proxies = proxies or TrustedProxies()
        self._add_docs(self.state.proxies)

    @override
    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        if self._authentication is not None:
            schemes = document["components"].setdefault("securitySchemes", {})
            schemes["key"] = {"type": "http", "scheme": "bearer"}
            document["security"] = [{"key": []}]
        return document

    def add_hot_route(self, route: HotRoute) -> None:
        """Add a route that is dispatched ahead of FastAPI's middleware stack."""
        self.router.routes.append(route)

    def _find_hot_handlers(self) -> dict[str, ASGIApp]:
        """Return the handlers of hot routes by path, without those that another route precedes."""
        handlers: dict[str, ASGIApp] = {}
        for hot in self.router.routes:
            if isinstance(hot, HotRoute):
                scope = {"type": "http", "method": "POST", "path": hot.path, "headers": []}
                matching = (r for r in self.router.routes if r.matches(scope)[0] is Match.FULL)
                if next(matching) is hot:
                    handlers[hot.path] = hot.app
        return handlers

    @override
    def build_middleware_stack(self) -> ASGIApp:
        # Around the middleware of users, so that none of it can open the admin API.
        stack: ASGIApp = AdminGuard(super().build_middleware_stack())
        # Middleware and error handlers that a user added must see hot routes too.
        if not self.user_middleware and self.exception_handlers == self._own_error_handlers:
            stack = HotDispatchMiddleware(stack, self._find_hot_handlers())
        if self._admin_port is not None:
            stack = AdminListener(stack, self._admin_port)
        stack = HeadMiddleware(stack, self.router)
        stack = UnversionedPathMiddleware(stack, self.router)
        stack = RequestContextMiddleware(
            stack,
            self._sinks,
            self._clock,
            self._browsers,
            self._client_headers,
            self._running,
            self._authentication,
            self._limits,
            ledger=self._ledger,
            format_price=self._format_price,
            serves_everyone=self._serves_everyone,
            begin_trace=self._begin_trace,
        )
        if self._cors_origins:  # outermost, so that pages can read error responses too
            stack = PublicCors(
                stack,
                allow_origins=self._cors_origins,
                allow_methods=["*"],
                allow_headers=["*"],
                expose_headers=EXPOSED_HEADERS,
            )
        return stack

    def _add_docs(self, proxies: TrustedProxies) -> None:
        self.mount(ASSETS_URL, Assets(proxies), name="docs-assets")
        # A cache of FastAPI keeps every route function forever, so this one must not keep the app.
        title, openapi_url = f"{self.title} API", self.openapi_url

        @self.get(DOCS_URL, include_in_schema=False)
        async def docs(request: Request) -> HTMLResponse:
            return render_docs(request, title, openapi_url, proxies)
