"""The HTTP application: every request gets an id and a trace, is answered, and is recorded once."""

import re
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import cached_property
from typing import Any, Final

import structlog
from fastapi import APIRouter, FastAPI

from maxgate import __version__, ids
from maxgate.api.errors import classify_error, error_headers, error_json
from maxgate.api.request_body import ClientDisconnect, Receive, Scope, Send
from maxgate.api.routing import Route, RouteTable
from maxgate.clock import Clock
from maxgate.errors import GatewayError, InternalError
from maxgate.generation.context import RequestContext
from maxgate.generation.request_record import Outcome, RequestRecord
from maxgate.telemetry.layer import Recorder

Lifespan = Callable[[Any], AbstractAsyncContextManager[None]]

# Asked every few seconds, by probes and dashboards.
_UNRECORDED: Final = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})
_PAGES: Final = frozenset({"/docs", "/openapi.json"})
_SAFE_REQUEST_ID: Final = re.compile(rb"[\w.:-]{1,128}")
_CLIENT_CLOSED_REQUEST: Final = 499

_log = structlog.get_logger()


class HttpApp:
    """An ASGI application that serves these routes, and documents them at /docs.

    Puts a RequestContext into `scope["state"]["context"]`, returns `X-Request-ID`, and answers
    GatewayErrors. A client's own `X-Request-ID` is kept if it is short and plain.
    """

    def __init__(
        self, routes: Sequence[Route], *, recorder: Recorder, clock: Clock, lifespan: Lifespan
    ) -> None:
        self._table = RouteTable(routes)
        self._recorder = recorder
        self._clock = clock
        self._routes = routes
        self._lifespan = APIRouter(lifespan=lifespan)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._lifespan(scope, receive, send)
            return
        if scope["path"] in _PAGES and scope["method"] == "GET":
            await self._pages(scope, receive, send)
            return
        started_at = self._clock.monotonic()
        trace = RequestRecord(_request_id(scope["headers"]), scope["method"], "other", started_at)
        scope.setdefault("state", {})["context"] = RequestContext(trace)
        response = _Response(send, trace)
        if scope["path"] in _UNRECORDED:
            await self._answer(scope, receive, response)
            return
        self._recorder.request_started()
        try:
            await self._answer(scope, receive, response)
        finally:
            trace.finished_at = self._clock.monotonic()
            trace.outcome = trace.outcome or _outcome(trace.status)
            self._recorder.request_finished(trace)

    @cached_property
    def _pages(self) -> FastAPI:
        """Made when somebody reads them: they take longer than the rest of the start."""
        return _documentation(self._routes)

    async def _answer(self, scope: Scope, receive: Receive, response: "_Response") -> None:
        trace = response.trace
        try:
            route = self._table.find(scope)
            trace.route = route.path
            await route.handler(scope, receive, response.send)
        except ClientDisconnect:
            trace.outcome = "client_gone"
            trace.status = trace.status or _CLIENT_CLOSED_REQUEST
        except GatewayError as error:
            await response.fail(error)
        except Exception as error:  # noqa: BLE001  # the last boundary: a bug must not end a worker
            _log.error("request failed", request_id=trace.request_id, exc_info=error)
            await response.fail(InternalError())


class _Response:
    """What has been sent to the client."""

    def __init__(self, send: Send, trace: RequestRecord) -> None:
        self._send = send
        self.trace = trace

    def send(self, message: MutableMapping[str, Any]) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            self.trace.status = message["status"]
            request_id = (b"x-request-id", self.trace.request_id.encode())
            message["headers"] = [*message["headers"], request_id]
        return self._send(message)

    async def fail(self, error: GatewayError) -> None:
        self.trace.outcome = classify_error(error)
        self.trace.error_code = error.code
        if self.trace.status:  # too late for another answer; the connection ends unfinished
            return
        body = error_json(error)
        headers = [*error_headers(error), (b"content-length", b"%d" % len(body))]
        await self.send({"type": "http.response.start", "status": error.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})


def _documentation(routes: Sequence[Route]) -> FastAPI:
    app = FastAPI(
        title="maxgate",
        version=__version__,
        description="OpenAI-compatible gateway in front of MAX Serve.",
        redoc_url=None,
    )
    app.router.routes.extend(route.documented() for route in routes)
    return app


def _request_id(headers: Sequence[tuple[bytes, bytes]]) -> str:
    given = [value for name, value in headers if name == b"x-request-id"]
    if len(given) == 1 and _SAFE_REQUEST_ID.fullmatch(given[0]):
        return str(given[0].decode("ascii"))
    return ids.request_id()


def _outcome(status: int) -> Outcome:
    if status == 0:
        return "client_gone"
    if status < 400:
        return "ok"
    return "client_error" if status < 500 else "internal_error"
