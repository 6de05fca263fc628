"""Around every request: its id, its trace, and what a client gets when something goes wrong."""

import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import structlog

from maxgate import ids
from maxgate.api.body import ClientGone, Receive, Scope, Send
from maxgate.api.errors import error_headers, error_json, outcome_of
from maxgate.clock import Clock
from maxgate.errors import GatewayError, InternalError
from maxgate.generation.trace import RequestTrace
from maxgate.telemetry.recorder import Recorder

ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
_SAFE_REQUEST_ID = re.compile(rb"[\w.:-]{1,128}")
_CLIENT_CLOSED_REQUEST = 499

_log = structlog.get_logger()


class RequestScope:
    """The outermost layer of the HTTP edge.

    Puts a RequestTrace into `scope["trace"]`, returns `X-Request-ID`, answers GatewayErrors, and
    records every request once. A client's own `X-Request-ID` is kept if it is short and plain.
    What people and machines ask every few seconds (`unrecorded` paths) is answered the same way
    and not recorded.
    """

    def __init__(
        self, app: ASGIApp, *, recorder: Recorder, clock: Clock, unrecorded: frozenset[str]
    ) -> None:
        self._app = app
        self._recorder = recorder
        self._clock = clock
        self._unrecorded = unrecorded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        trace = RequestTrace(
            request_id=_request_id(scope),
            method=scope["method"],
            route="other",
            started_at=self._clock.monotonic(),
        )
        scope["trace"] = trace
        if scope["path"] in self._unrecorded:
            await self._run(scope, receive, _Response(send, trace))
            return
        self._recorder.request_started()
        try:
            await self._run(scope, receive, _Response(send, trace))
        finally:
            trace.finished_at = self._clock.monotonic()
            trace.outcome = trace.outcome or _outcome(trace.status)
            self._recorder.request_finished(trace)

    async def _run(self, scope: Scope, receive: Receive, response: "_Response") -> None:
        trace = response.trace
        try:
            await self._app(scope, receive, response.send)
        except ClientGone:
            trace.outcome = "client_gone"
            trace.status = trace.status or _CLIENT_CLOSED_REQUEST
        except GatewayError as error:
            await response.fail(error)
        except Exception as error:  # noqa: BLE001  # the last boundary: a bug must not end a worker
            _log.error("request failed", request_id=trace.request_id, exc_info=error)
            await response.fail(InternalError())


class _Response:
    """What has been sent to the client."""

    def __init__(self, send: Send, trace: RequestTrace) -> None:
        self._send = send
        self.trace = trace

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.trace.status = message["status"]
            request_id = (b"x-request-id", self.trace.request_id.encode())
            message["headers"] = [*message.get("headers", ()), request_id]
        await self._send(message)

    async def fail(self, error: GatewayError) -> None:
        self.trace.outcome = outcome_of(error)
        self.trace.error_code = error.code
        if self.trace.status:  # too late for another answer; the connection ends unfinished
            return
        body = error_json(error)
        headers = [*error_headers(error), (b"content-length", str(len(body)).encode())]
        await self.send({"type": "http.response.start", "status": error.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})


def _request_id(scope: Scope) -> str:
    given = [value for name, value in scope["headers"] if name == b"x-request-id"]
    if len(given) == 1 and _SAFE_REQUEST_ID.fullmatch(given[0]):
        return str(given[0].decode("ascii"))
    return ids.request_id()


def _outcome(status: int) -> Any:
    if status == 0:
        return "client_gone"
    if status < 400:
        return "ok"
    return "client_error" if status < 500 else "internal_error"
