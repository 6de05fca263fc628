"""ASGI middleware around every request: context, request id, header limits, record, errors."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeAlias

import structlog
from starlette.routing import Match, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from maxgate import ids
from maxgate.api.authentication import (
    CREDENTIAL_CHECK,
    CREDENTIAL_HEADERS,
    MODEL_SEGMENTS,
    PROBES,
    Authentication,
    drain_body,
)
from maxgate.api.browsers import BrowserGuard, is_public
from maxgate.api.client_headers import ClientHeaders, RequestTimer
from maxgate.api.connection import EXTENSION, HEADER_LINES, ClientConnection
from maxgate.api.disconnect import CLIENT_CLOSED_REQUEST, ClientDisconnect
from maxgate.api.error_handlers import allowed_methods
from maxgate.api.errors import encode_error, error_response, record_error
from maxgate.api.header_limits import check_headers
from maxgate.auth.identity import AUTHENTICATION_ERRORS, AuthenticationRequired
from maxgate.clock import Clock
from maxgate.errors import GatewayError, InternalError, OutOfResources, ShuttingDown, StackTrace
from maxgate.generation.context import RequestContext, UsageLedger
from maxgate.generation.errors import UsageUnavailable
from maxgate.generation.request_record import (
    Outcome,
    RequestRecord,
    RequestSink,
    current_record,
)
from maxgate.generation.trace import RequestTrace
from maxgate.limits.headers import split_lines
from maxgate.limits.limit import EdgeLimits
from maxgate.net.shortage import find_shortage

# Probes and dashboards poll these every few seconds, and proxies check each request beforehand.
_UNRECORDED: Final = frozenset(
    {
        "/health",
        *PROBES,
        "/metrics",
        "/metrics/vllm",
        "/docs",
        "/openapi.json",
        CREDENTIAL_CHECK,
    }
)
# Routes with limits, which are checked before the body is read.
_LIMITED: Final = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
# Routes by their paths whose requests have lines in the ledger.
_METERED: Final = {
    path: route
    for route in (*_LIMITED, "/v1/moderations")
    for path in (route, route.removeprefix("/v1"))
}
# A gateway that stops still serves these; /health/ready is not one of them.
_SERVED_UNTIL_THE_END: Final = frozenset({"/health", "/health/live", "/metrics", "/metrics/vllm"})
FormatPrice: TypeAlias = Callable[[RequestRecord], str]
"""Returns the price of a request as decimal text."""
BeginTrace: TypeAlias = Callable[[bytes | None, bytes | None], RequestTrace]
"""Begins the trace of a request with these values of `traceparent` and `tracestate`."""
_TRACE_PARENT: Final = b"traceparent"
_TRACE_STATE: Final = b"tracestate"
_REQUEST_ID: Final = b"x-request-id"
_SAFE_REQUEST_ID: Final = re.compile(rb"[\w.:-]{1,128}")

_log = structlog.get_logger("api")


class RequestContextMiddleware:
    """Gives each request a RequestContext and records it exactly once.

    A client's `X-Request-ID` is kept if it is short and plain, otherwise a new one is made; the
    response carries it. Exceptions that nothing else handled become error responses here, and so
    does the end of the time that the client allows. Without `serves_everyone`, requests must arrive
    at a loopback address.
    """

    def __init__(
        self,
        app: ASGIApp,
        sinks: Sequence[RequestSink],
        clock: Clock,
        browsers: BrowserGuard,
        client_headers: ClientHeaders | None = None,
        running: set[RequestContext] | None = None,
        authentication: Authentication | None = None,
        limits: EdgeLimits | None = None,
        *,
        ledger: UsageLedger | None = None,
        serves_everyone: bool = True,
        format_price: FormatPrice | None = None,
        begin_trace: BeginTrace | None = None,
    ) -> None:
        """`running` is kept equal to the requests that have not ended, probes aside.

        With `format_price`, responses of models that are not streamed have their price.
        """
        self._format_price = format_price
        self._app = app
        self._sinks = sinks
        self._running = set[RequestContext]() if running is None else running
        self._browsers = browsers
        self._client_headers = client_headers or ClientHeaders()
        self._names = self._client_headers.names | {_REQUEST_ID, b"host", b"origin"}
        self._authentication = authentication
        if authentication is not None:
            self._names |= CREDENTIAL_HEADERS
        self._begin_trace = begin_trace
        if begin_trace is not None:
            self._names |= {_TRACE_PARENT, _TRACE_STATE}
        self._limits = limits
        self._ledger = ledger
        self._is_metering = limits is not None or ledger is not None
        self._serves_everyone = serves_everyone
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self._pass_on(scope, receive, send)
            return
        names, headers = self._names, dict[bytes, bytes]()
        for name, value in scope["headers"]:
            if name in names:
                headers[name] = b"%b, %b" % (headers[name], value) if name in headers else value
        request_id = _choose_request_id(headers.get(_REQUEST_ID))
        record = RequestRecord(request_id, scope["method"], "other", self._clock.monotonic())
        context = RequestContext(record)
        scope.setdefault("state", {})["context"] = context
        response = _RecordedResponse(send, context)
        path = get_route_path(scope)
        response.format_price = self._format_price
        if path in _UNRECORDED or path.startswith("/docs/"):
            await self._respond(scope, receive, response, headers, path, always=True)
            return
        self._begin(context, headers)
        try:
            await self._respond(scope, receive, response, headers, path)
        finally:
            self._running.discard(context)
            if (route := scope.get("route")) is not None:
                record.route = route.path_format
            try:
                self._record(context)
            finally:
                if context.reservation is not None:
                    context.reservation.settle(record)

    def _begin(self, context: RequestContext, headers: Mapping[bytes, bytes]) -> None:
        if self._begin_trace is not None:
            parent, state = headers.get(_TRACE_PARENT), headers.get(_TRACE_STATE)
            context.record.trace = self._begin_trace(parent, state)
        current_record.set(context.record)
        for sink in self._sinks:
            sink.request_started()
        self._running.add(context)

    def _record(self, context: RequestContext) -> None:
        record = context.record
        record.project_id = context.principal.project_id
        record.retries = context.retries.taken
        record.finish(self._clock.monotonic())
        record.outcome = record.outcome or _classify_status(record.status)
        for sink in self._sinks:
            sink.request_finished(record)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the lifespan; the gateway has no WebSockets, and authenticates none of others."""
        if scope["type"] == "websocket":
            server = scope.get("server")
            is_exposed = not self._serves_everyone and bool(server and is_public(server[0]))
            if self._authentication is not None or is_exposed:
                await send({"type": "websocket.close", "code": 1008})
                return
        await self._app(scope, receive, send)

    async def _check_caller(self, scope: Scope, headers: Mapping[bytes, bytes]) -> None:
        host = headers.get(b"host", b"")
        server = scope.get("server")
        if server is not None:
            if not self._serves_everyone and is_public(server[0]):
                self._refuse_exposed(scope)
            self._browsers.check_host(server[0], host)
        if origin := headers.get(b"origin"):
            self._browsers.check_origin(scope, origin, host)
        if self._authentication is not None:
            await self._authentication.authenticate(scope, get_route_path(scope), headers)

    def _apply_context(
        self,
        scope: Scope,
        headers: Mapping[bytes, bytes],
        response: "_RecordedResponse",
        path: str,
    ) -> None:
        """Apply the headers of the client, and meter the request if its route has a model.

        Refuses a request whose limits are exhausted, or for whose line the ledger has no room.
        """
        context: RequestContext = scope["state"]["context"]
        if not self._client_headers.names.isdisjoint(headers):
            response.timer = self._client_headers.apply(headers, context)
        route = _METERED.get(path)
        if route is None or not self._is_metering or scope["method"] != "POST":
            return
        limits, ledger = self._limits, self._ledger
        try:
            if limits is not None and route in _LIMITED:
                response.limits = limits
                limits.check(context.principal)
            if ledger is not None:
                if ledger.is_refusing:
                    raise UsageUnavailable
                context.ledger = ledger
        except GatewayError:
            context.record.route = route
            response.is_refused_early = True
            raise

    @staticmethod
    def _refuse_exposed(scope: Scope) -> None:
        if get_route_path(scope) not in PROBES:
            raise AuthenticationRequired

    async def _respond(
        self,
        scope: Scope,
        receive: Receive,
        response: "_RecordedResponse",
        headers: Mapping[bytes, bytes],
        path: str,
        *,
        always: bool = False,
    ) -> None:
        connection: ClientConnection | None = scope.get("extensions", {}).get(EXTENSION)
        response.connection = connection
        try:
            if connection is None:  # our own server has checked them while it parsed them
                check_headers(scope)
            elif connection.refuses_requests or connection.lacks_descriptors:
                await _check_capacity(connection, scope, receive, always=always)
            await self._check_caller(scope, headers)
            if not always:
                self._apply_context(scope, headers, response, path)
            await self._app(scope, receive, response.send)
        except asyncio.CancelledError:
            is_shutting_down = connection is not None and connection.is_shutting_down
            error = response.explain_cancellation(is_shutting_down=is_shutting_down)
            if error is None:
                raise
            await response.interrupt(error)
        except Exception as error:  # noqa: BLE001  # the last boundary: a bug must not end a worker
            await response.end_with(error, partial(drain_body, scope, receive))
        finally:
            response.close()


def _report_bug(record: RequestRecord, error: Exception) -> InternalError:
    _log.error("request failed", request_id=record.request_id, exception=StackTrace(error))
    return InternalError()


class _RecordedResponse:
    """The response of one request; notes its status, adds the request id and the time in the queue.

    Responses of requests that did not reach a model have no time in the queue. The line of a
    request in the ledger is durable before the last byte leaves. Our own server holds that byte, so
    that no task has to wait.
    """

    format_price: FormatPrice | None = None

    def __init__(self, send: Send, context: RequestContext) -> None:
        self._send = send
        self._headers: Sequence[tuple[bytes, bytes]] = ()
        self._context = context
        self.record = context.record
        self.timer: RequestTimer | None = None
        self.limits: EdgeLimits | None = None
        self.is_refused_early = False  # before the body is read
        self.connection: ClientConnection | None = None

    def send(self, message: MutableMapping[str, Any]) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            record = self.record
            status = record.status = message["status"]
            request_id = (b"x-request-id", record.request_id.encode())
            headers = [*message.get("headers", ()), request_id]
            if self.format_price is not None and record.model is not None and not record.stream:
                headers.append((b"x-maxgate-cost", self.format_price(record).encode()))
            # A stream that begins with a keep-alive before its engine call is still in the queue.
            if record.model is not None and (
                record.engine_calls or not record.stream or status >= 400
            ):
                headers.append((b"x-maxgate-queue-ms", b"%d" % round(record.queue_seconds * 1000)))
            if self.limits is not None:
                lines = self.limits.format_headers(self._context)
                if self.connection is None:
                    headers += split_lines(lines)
                else:
                    message[HEADER_LINES] = lines
            message["headers"] = self._headers = headers
        elif self._context.ledger is not None and not message.get("more_body"):
            return self._send_last(self._context.ledger, message)
        return self._send(message)

    def _send_last(self, ledger: UsageLedger, message: MutableMapping[str, Any]) -> Awaitable[None]:
        release = None if self.connection is None else self.connection.hold_writes()
        if release is None:
            return self._wait_and_send(ledger.commit(self._context), message)
        if not ledger.commit_then(self._context, release):
            release()
        return self._send(message)

    async def _wait_and_send(
        self, durable: Awaitable[None] | None, message: MutableMapping[str, Any]
    ) -> None:
        if durable is not None:
            await durable
        await self._send(message)

    def close(self) -> None:
        """Stop the timer, and write the line of a request that has not ended as planned."""
        if self.timer is not None:
            self.timer.cancel()
        if self._context.ledger is not None:
            self._context.ledger.append(self._context)

    async def fail(
        self,
        error: GatewayError,
        before_end: Callable[[], Awaitable[None]] | None = None,
        *,
        is_truncated: bool = False,
    ) -> None:
        record_error(self.record, error)
        if is_truncated:
            self.record.outcome = "truncated"
        if not self.record.status:
            start, body = error_response(error)
            await self.send(start)
            if before_end is not None:
                await self.send({**body, "more_body": True})
                await before_end()
                body = {"type": "http.response.body", "body": b"", "more_body": False}
            await self.send(body)
        elif any(value.startswith(b"text/event-stream") for _, value in self._headers):
            event = b"data: %b\n\n" % encode_error(error)
            with suppress(RuntimeError):  # the response had ended
                await self.send({"type": "http.response.body", "body": event, "more_body": False})
        # Other responses end unfinished, which closes the connection.

    async def end_with(self, error: Exception, drain: Callable[[], Awaitable[None]]) -> None:
        """End the response of a request that raised this error.

        `drain` discards the body of a request that was refused before it was read.
        """
        record = self.record
        if isinstance(error, ClientDisconnect):
            record.outcome = "client_gone"
            record.status = record.status or CLIENT_CLOSED_REQUEST
        elif isinstance(error, GatewayError):
            is_early = self.is_refused_early or isinstance(error, AUTHENTICATION_ERRORS)
            await self.fail(error, drain if is_early else None)
        else:
            await self.fail(find_shortage(error) or _report_bug(record, error))

    def explain_cancellation(self, *, is_shutting_down: bool) -> GatewayError | None:
        """Return why the request was cancelled, if the gateway did it."""
        if self.timer is not None and self.timer.error is not None:
            return self.timer.error
        return ShuttingDown() if is_shutting_down else None

    async def interrupt(self, error: GatewayError) -> None:
        """End the response of a request that has been cancelled."""
        task = asyncio.current_task()
        while task is not None and task.cancelling():
            task.uncancel()
        await self.fail(error, is_truncated=self.record.first_token_at is not None)


class HeadMiddleware:
    """Serves HEAD as GET without the body, unless the router has a HEAD route of its own."""

    def __init__(self, app: ASGIApp, router: Router) -> None:
        self._app = app
        self._router = router

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Handle one ASGI connection."""
        if scope.get("method") != "HEAD" or "HEAD" in allowed_methods(scope, self._router):
            return self._app(scope, receive, send)
        return self._serve_head(scope, receive, send)

    async def _serve_head(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_head(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        as_get = {**scope, "method": "GET"}
        await self._app(as_get, receive, send_head)
        if "route" in as_get:
            scope["route"] = as_get["route"]


class UnversionedPathMiddleware:
    """Serves `/chat/completions` and its siblings as `/v1/chat/completions`.

    Some clients are configured with a base URL without `/v1`. Routes that the router has at such a
    path come first.
    """

    def __init__(self, app: ASGIApp, router: Router) -> None:
        self._app = app
        self._router = router

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Handle one ASGI connection."""
        if scope["type"] == "http":
            path = get_route_path(scope)
            if path[1:].partition("/")[0] in MODEL_SEGMENTS and not self._has_route(scope):
                # In place, so that RequestContextMiddleware finds the route that served it.
                scope["path"] = f"{scope.get('root_path', '')}/v1{path}"
                scope.pop("raw_path", None)
        return self._app(scope, receive, send)

    def _has_route(self, scope: Scope) -> bool:
        return any(route.matches(scope)[0] is not Match.NONE for route in self._router.routes)


class HotDispatchMiddleware:
    """Dispatches hot routes by their path, ahead of FastAPI's own middleware and router."""

    def __init__(self, app: ASGIApp, handlers: Mapping[str, ASGIApp]) -> None:
        self._app = app
        self._handlers = handlers

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Handle one ASGI connection."""
        if scope["type"] != "http" or scope["method"] != "POST":
            return self._app(scope, receive, send)
        path = get_route_path(scope)
        handler = self._handlers.get(path)
        if handler is None:
            return self._app(scope, receive, send)
        scope["state"]["context"].record.route = path
        return handler(scope, receive, send)


def get_route_path(scope: Scope) -> str:
    """Return the path below the prefix at which the application is mounted.

    As Starlette's router does: a prefix consists of whole segments, and a server may leave it out
    of the path. Another rule would let requests past AdminGuard.
    """
    path: str = scope["path"]
    root_path = scope.get("root_path")
    if root_path and (path == root_path or path.startswith(f"{root_path}/")):
        return path.removeprefix(root_path)
    return path


async def _check_capacity(
    connection: ClientConnection, scope: Scope, receive: Receive, *, always: bool
) -> None:
    """Refuse requests while the gateway stops or has no file descriptors left.

    `always` exempts what operators look at from the second.
    """
    if connection.lacks_descriptors and not always:
        raise OutOfResources("file descriptors")
    if connection.refuses_requests and get_route_path(scope) not in _SERVED_UNTIL_THE_END:
        await _refuse(receive)


async def _refuse(receive: Receive) -> None:
    # Closing a connection with unread data would reset it, response included.
    while (await receive()).get("more_body"):
        pass
    raise ShuttingDown


def _choose_request_id(given: bytes | None) -> str:
    if given is not None and _SAFE_REQUEST_ID.fullmatch(given):
        return given.decode("ascii")
    return ids.request_id()


def _classify_status(status: int) -> Outcome:
    if status == 0:
        return "client_gone"
    if status < 400:
        return "ok"
    return "client_error" if status < 500 else "internal_error"
