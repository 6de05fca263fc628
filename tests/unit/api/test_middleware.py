"""Every request has a context and one record; HEAD and hot routes are dispatched."""

import asyncio
import errno
import json
from collections.abc import Callable
from typing import Any

import pytest
from starlette._utils import get_route_path as find_route_path
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from maxgate.api.browsers import BrowserGuard
from maxgate.api.connection import EXTENSION
from maxgate.api.disconnect import ClientDisconnect
from maxgate.api.middleware import (
    HeadMiddleware,
    HotDispatchMiddleware,
    RequestContextMiddleware,
    get_route_path,
)
from maxgate.errors import InternalError, InvalidRequest
from maxgate.generation.context import RequestContext
from tests.fakes.asgi import RecordingSink, SentMessages, http_scope
from tests.fakes.clock import FakeClock

GUARD = BrowserGuard(["*"], [])


class Connection:
    """A connection of our own server."""

    def __init__(
        self,
        *,
        is_shutting_down: bool = False,
        lacks_descriptors: bool = False,
        refuses_requests: bool = False,
    ) -> None:
        self.is_shutting_down = is_shutting_down
        self.lacks_descriptors = lacks_descriptors
        self.refuses_requests = refuses_requests


async def receive() -> dict[str, Any]:
    """Wait for a message that never comes."""
    await asyncio.Event().wait()
    return {}


async def run(app: ASGIApp, scope: Scope, **options: Any) -> tuple[RecordingSink, SentMessages]:
    """Run one request of the application inside RequestContextMiddleware."""
    sink, sent = RecordingSink(), SentMessages()
    middleware = RequestContextMiddleware(app, [sink], FakeClock(), GUARD, **options)
    await middleware(scope, receive, sent)
    return sink, sent


def raising(error: Exception, *, after: int = 0) -> ASGIApp:
    """An application that raises after this number of messages of a response with status 200."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        messages = [
            {"type": "http.response.start", "status": 200, "headers": []},
            {"type": "http.response.body", "body": b"a", "more_body": True},
        ]
        for message in messages[:after]:
            await send(message)
        raise error

    return app


@pytest.mark.parametrize(
    ("model", "stream", "engine_calls", "status", "value"),
    [
        ("small", False, 0, 200, "1235"),
        ("small", True, 1, 200, "1235"),
        ("small", True, 0, 503, "1235"),
        ("small", True, 0, 200, None),  # a keep-alive
        (None, False, 0, 400, None),
    ],
)
async def test_queue_header(
    model: str | None, *, stream: bool, engine_calls: int, status: int, value: str | None
) -> None:
    """The time in the queue is sent if a model was reached and the wait has ended."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        record = scope["state"]["context"].record
        record.model, record.stream, record.engine_calls = model, stream, engine_calls
        record.queue_seconds = 1.2348
        await PlainTextResponse("", status)(scope, receive, send)

    _, sent = await run(app, http_scope("POST", "/v1/chat/completions"))
    assert (sent.status, sent.headers.get("x-maxgate-queue-ms")) == (status, value)


@pytest.mark.parametrize(
    ("model", "stream", "price"),
    [("small", False, "0.30"), ("small", True, None), (None, False, None)],
)
async def test_cost_header(model: str | None, *, stream: bool, price: str | None) -> None:
    """The price of the tokens is sent unless the response is streamed or no model was reached."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        record = scope["state"]["context"].record
        record.model, record.stream, record.completion_tokens = model, stream, 30
        await PlainTextResponse("")(scope, receive, send)

    _, sent = await run(
        app, http_scope("POST"), format_price=lambda record: f"0.{record.completion_tokens}"
    )
    assert sent.headers.get("x-maxgate-cost") == price


async def test_context() -> None:
    """The application finds its context in the state, and the response carries the request ID."""
    contexts: list[RequestContext] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        contexts.append(scope["state"]["context"])
        await PlainTextResponse("a")(scope, receive, send)

    sink, sent = await run(app, http_scope(path="/a", headers=[(b"x-request-id", b"mine")]))
    [record] = sink.records
    assert (contexts[0].record, record.request_id, sent.headers["x-request-id"]) == (
        record,
        "mine",
        "mine",
    )
    assert (sink.started, record.outcome, record.status) == (1, "ok", 200)


@pytest.mark.parametrize("request_ids", [[], [b"a", b"b"], [b"a b"], [b"a" * 129]])
async def test_new_request_id(request_ids: list[bytes]) -> None:
    """A request ID that is missing, repeated, long or not plain is replaced."""
    headers = [(b"x-request-id", request_id) for request_id in request_ids]
    sink, sent = await run(PlainTextResponse("a"), http_scope(headers=headers))
    assert sent.headers["x-request-id"] == sink.records[0].request_id
    assert sink.records[0].request_id.startswith("req_")


@pytest.mark.parametrize(
    ("error", "status", "outcome", "code"),
    [
        (InvalidRequest("No.", code="invalid_value"), 400, "client_error", "invalid_value"),
        (InternalError(), 500, "internal_error", "internal_error"),
        (RuntimeError("secret"), 500, "internal_error", "internal_error"),
    ],
)
async def test_error(error: Exception, status: int, outcome: str, code: str) -> None:
    """An unhandled exception becomes an error response, and is recorded once."""
    sink, sent = await run(raising(error), http_scope())
    [record] = sink.records
    assert (sent.status, json.loads(sent.body)["error"]["code"]) == (status, code)
    assert (record.status, record.outcome, record.error_code) == (status, outcome, code)
    assert b"secret" not in sent.body


async def test_error_in_body() -> None:
    """An error after the start of the response is recorded, and nothing else is sent."""
    sink, sent = await run(raising(RuntimeError("bug"), after=2), http_scope())
    [record] = sink.records
    assert (sent.status, sent.body) == (200, b"a")
    assert (record.outcome, record.error_code) == ("internal_error", "internal_error")


async def test_disconnect() -> None:
    """A request whose client disconnected is recorded with status 499, without a response."""
    sink, sent = await run(raising(ClientDisconnect()), http_scope())
    [record] = sink.records
    assert (record.status, record.outcome, sent.messages) == (499, "client_gone", [])


async def test_cancelled() -> None:
    """A cancelled request is recorded once, and the cancellation is raised."""
    started, sink = asyncio.Event(), RecordingSink()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        started.set()
        await receive()

    middleware = RequestContextMiddleware(app, [sink], FakeClock(), GUARD)
    task = asyncio.create_task(middleware(http_scope(), receive, SentMessages()))
    await started.wait()
    task.cancel()
    await asyncio.wait([task])
    assert (task.cancelled(), [record.outcome for record in sink.records]) == (
        True,
        ["client_gone"],
    )


@pytest.mark.parametrize("path", ["/health", "/health/ready", "/metrics", "/metrics/vllm", "/docs"])
async def test_unrecorded_path(path: str) -> None:
    """Paths that probes and dashboards poll are served without a record."""
    sink, sent = await run(PlainTextResponse("a"), http_scope(path=path))
    assert (sink.started, sink.records, sent.status) == (0, [], 200)


@pytest.mark.parametrize(("extensions", "status"), [({}, 400), ({EXTENSION: Connection()}, 200)])
async def test_header_checks(extensions: dict[str, Connection], status: int) -> None:
    """Headers are checked here, unless our own server has done so."""
    scope = http_scope(headers=[(b"host", b"a"), (b"host", b"b")]) | {"extensions": extensions}
    _, sent = await run(PlainTextResponse("a"), scope)
    assert sent.status == status


async def test_lack_of_descriptors() -> None:
    """A connection for which there are no descriptors gets a 503, except for probes."""
    extensions = {"extensions": {EXTENSION: Connection(lacks_descriptors=True)}}
    sink, sent = await run(PlainTextResponse("a"), http_scope(path="/v1/models") | extensions)
    [record] = sink.records
    assert json.loads(sent.body)["error"] == {
        "message": "The gateway is out of file descriptors. Try again shortly.",
        "type": "server_error",
        "param": None,
        "code": "gateway_out_of_resources",
    }
    assert (sent.status, sent.headers["retry-after"]) == (503, "2")
    assert (record.outcome, record.error_code) == ("unavailable", "gateway_out_of_resources")
    _, sent = await run(PlainTextResponse("a"), http_scope(path="/health/live") | extensions)
    assert sent.status == 200


async def test_lack_of_descriptors_in_a_route() -> None:
    """A route that finds no descriptor responds with 503, not as a bug."""
    error = OSError(errno.EMFILE, "Too many open files")
    sink, sent = await run(raising(error), http_scope())
    assert (sent.status, sink.records[0].error_code) == (503, "gateway_out_of_resources")


async def test_other_scopes() -> None:
    """Scopes other than HTTP pass through without a context."""
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)

    sink, _ = await run(app, {"type": "lifespan"})
    assert (scopes, sink.started) == ([{"type": "lifespan"}], 0)


def method_router(*methods: str) -> Router:
    """A router that responds to these methods with the name of the method."""

    def respond(method: str) -> Callable[[Request], PlainTextResponse]:
        return lambda _: PlainTextResponse(method, headers={"x-method": method})

    router = Router()
    for method in methods:
        route = Route("/a", respond(method), methods=[method])
        route.methods = {method}  # Starlette adds HEAD to GET; FastAPI does not
        router.routes.append(route)
    return router


@pytest.mark.parametrize(
    ("methods", "method", "served", "body"),
    [
        (["GET"], "GET", "GET", b"GET"),
        (["GET"], "HEAD", "GET", b""),
        (["GET", "HEAD"], "HEAD", "HEAD", b"HEAD"),
    ],
)
async def test_head(methods: list[str], method: str, served: str, body: bytes) -> None:
    """HEAD is served as GET without the body, unless there is a HEAD route."""
    router, sent = method_router(*methods), SentMessages()
    await HeadMiddleware(router, router)(http_scope(method, "/a"), receive, sent)
    assert (sent.status, sent.headers["x-method"], sent.body) == (200, served, body)
    assert sent.headers["content-length"] == str(len(served))


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("POST", "/hot", b"hot"), ("GET", "/hot", b"other"), ("POST", "/hot/", b"other")],
)
async def test_hot_dispatch(method: str, path: str, body: bytes) -> None:
    """POST on the exact path of a hot route bypasses the application."""
    hot_dispatch = HotDispatchMiddleware(
        PlainTextResponse("other"), {"/hot": PlainTextResponse("hot")}
    )
    sink, sent = await run(hot_dispatch, http_scope(method, path))
    [record] = sink.records
    assert (sent.body, record.route) == (body, "/hot" if body == b"hot" else "other")


@pytest.mark.parametrize(
    ("root_path", "path", "route_path"),
    [
        ("", "/a", "/a"),
        ("/llm", "/llm/a", "/a"),
        ("/llm", "/llm", ""),
        ("/llm", "/a", "/a"),
        ("/ad", "/admin/engines", "/admin/engines"),
        ("/", "/admin/engines", "/admin/engines"),
        ("/", "//admin/engines", "/admin/engines"),
        ("/llm/", "/llm/a", "/llm/a"),
    ],
)
def test_route_path(root_path: str, path: str, route_path: str) -> None:
    """The prefix of a mounted application is not part of the route path, as for the router."""
    scope = http_scope(path=path) | {"root_path": root_path}
    assert get_route_path(scope) == route_path
    assert find_route_path(scope) == route_path


def waiting(*messages: dict[str, Any], tokens: bool = False) -> ASGIApp:
    """An application that sends these messages and waits."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if tokens:
            scope["state"]["context"].record.first_token_at = 1.0
        for message in messages:
            await send(message)
        await asyncio.Event().wait()

    return app


STREAM_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/event-stream; charset=utf-8")],
}


async def cancel(app: ASGIApp, *, is_shutting_down: bool) -> tuple[RecordingSink, SentMessages]:
    """Cancel the task of a request while its application waits."""
    scope = {
        **http_scope(),
        "extensions": {EXTENSION: Connection(is_shutting_down=is_shutting_down)},
    }
    sink, sent = RecordingSink(), SentMessages()
    task = asyncio.ensure_future(
        RequestContextMiddleware(app, [sink], FakeClock(), GUARD)(scope, receive, sent)
    )
    asyncio.get_running_loop().call_soon(task.cancel)
    await task
    assert not task.cancelling()
    return sink, sent


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/chat/completions", 503),
        ("/health/ready", 503),
        ("/health/live", 200),
        ("/health", 200),
        ("/metrics", 200),
        ("/metrics/vllm", 200),
    ],
)
async def test_drain(path: str, status: int) -> None:
    """A gateway that stops refuses requests, but still reports on itself."""
    connection = Connection(refuses_requests=True)
    scope = {**http_scope("POST", path), "extensions": {EXTENSION: connection}}
    body = [
        {"type": "http.request", "body": b"a", "more_body": True},
        {"type": "http.request", "body": b"b"},
    ]

    async def receive_body() -> dict[str, object]:
        return body.pop(0)

    sent, app = SentMessages(), PlainTextResponse("ok")
    await RequestContextMiddleware(app, [], FakeClock(), GUARD)(scope, receive_body, sent)
    # Unread data would reset the connection when it is closed.
    assert (sent.status, len(body)) == (status, 0 if status == 503 else 2)


async def test_shutdown() -> None:
    """A request that the server cancels at its shutdown gets a 503 that may be retried."""
    sink, sent = await cancel(waiting(), is_shutting_down=True)
    [record] = sink.records
    assert (sent.status, sent.headers["retry-after"]) == (503, "5")
    assert (record.status, record.outcome, record.error_code) == (
        503,
        "unavailable",
        "server_shutting_down",
    )


@pytest.mark.parametrize(("tokens", "outcome"), [(True, "truncated"), (False, "unavailable")])
async def test_shutdown_during_a_stream(outcome: str, *, tokens: bool) -> None:
    """A stream that the server cancels at its shutdown ends with an error event."""
    sink, sent = await cancel(waiting(dict(STREAM_START), tokens=tokens), is_shutting_down=True)
    [record] = sink.records
    assert json.loads(sent.body.removeprefix(b"data: "))["error"]["code"] == "server_shutting_down"
    assert (sent.messages[-1]["more_body"], record.outcome) == (False, outcome)


async def test_other_cancellations() -> None:
    """A cancellation for another reason is raised."""
    with pytest.raises(asyncio.CancelledError):
        await cancel(waiting(), is_shutting_down=False)


async def test_bug_during_a_stream() -> None:
    """A stream in which the gateway fails ends with an error event."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(dict(STREAM_START))
        raise RuntimeError("bug")

    sink, sent = await run(app, http_scope())
    assert json.loads(sent.body.removeprefix(b"data: "))["error"]["code"] == "internal_error"
    assert (sink.records[0].outcome, sent.messages[-1]["more_body"]) == ("internal_error", False)
