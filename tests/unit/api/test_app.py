"""The FastAPI application dispatches hot routes and records every request."""

import gc
import weakref
from collections.abc import Awaitable, Callable
from contextlib import nullcontext

import pytest
from fastapi import Request
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from pydantic import BaseModel
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from maxgate.api.app import Gateway
from maxgate.api.disconnect import ClientDisconnect
from maxgate.api.hot_route import HotRoute, send_json
from maxgate.errors import GatewayError, InvalidRequest
from tests.fakes.asgi import RecordingSink
from tests.fakes.clock import FakeClock


class Body(BaseModel):
    """A request body."""

    text: str


async def respond(scope: Scope, receive: Receive, send: Send) -> None:
    if b"fail" in scope["query_string"]:
        raise InvalidRequest("No.", code="invalid_value")
    await send_json(send, b'{"text":"hot"}')


@pytest.fixture
def sink() -> RecordingSink:
    """The sink of the application."""
    return RecordingSink()


@pytest.fixture
def app(sink: RecordingSink) -> Gateway:
    """An application with one hot route and one ordinary route."""
    app = Gateway(sinks=[sink], clock=FakeClock(), lifespan=lambda _: nullcontext())
    app.add_hot_route(
        HotRoute(
            "/hot", respond, name="hot", description="Respond.", body=Body, response=Body, tag="Hot"
        )
    )
    app.get("/items/{item}")(lambda item: item)
    return app


def get_routes(sink: RecordingSink) -> list[tuple[str, str | None]]:
    """Route and outcome of each recorded request."""
    return [(record.route, record.outcome) for record in sink.records]


def test_hot_route(app: Gateway, sink: RecordingSink) -> None:
    """A hot route is served and recorded under its path."""
    response = TestClient(app).post("/hot", json={})
    assert (response.status_code, response.json()) == (200, {"text": "hot"})
    assert get_routes(sink) == [("/hot", "ok")]


def test_other_routes(app: Gateway, sink: RecordingSink) -> None:
    """Ordinary routes are recorded under their pattern, and unknown paths as `other`."""
    client = TestClient(app)
    statuses = [client.get(path).status_code for path in ("/items/1", "/none", "/hot")]
    assert statuses == [200, 404, 405]
    assert get_routes(sink) == [
        ("/items/{item}", "ok"),
        ("other", "client_error"),
        ("/hot", "client_error"),
    ]


def test_user_middleware(app: Gateway, sink: RecordingSink) -> None:
    """Middleware that a user adds sees hot routes."""

    @app.middleware("http")
    async def mark(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        response = await call_next(request)
        response.headers["x-mark"] = "seen"
        return response

    response = TestClient(app).post("/hot", json={})
    assert (response.json(), response.headers["x-mark"]) == ({"text": "hot"}, "seen")
    assert get_routes(sink) == [("/hot", "ok")]


def test_user_error_handler(app: Gateway, sink: RecordingSink) -> None:
    """An exception handler that a user adds sees the errors of hot routes."""

    @app.exception_handler(GatewayError)
    async def handle(request: Request, error: GatewayError) -> PlainTextResponse:
        return PlainTextResponse(f"custom {error.code}", error.status)

    response = TestClient(app).post("/hot?fail", json={})
    assert (response.status_code, response.text) == (400, "custom invalid_value")
    assert get_routes(sink) == [("/hot", "client_error")]


def test_router_order(app: Gateway) -> None:
    """A route that a user puts before a hot route answers in its place."""
    mine = APIRoute("/hot", lambda: {"text": "mine"}, methods=["POST"])
    app.router.routes.insert(0, mine)
    assert TestClient(app).post("/hot", json={}).json() == {"text": "mine"}


@pytest.mark.parametrize("with_middleware", [False, True])
def test_disconnect(app: Gateway, sink: RecordingSink, *, with_middleware: bool) -> None:
    """A client that disconnects is recorded as such, before and after the response has started."""
    if with_middleware:
        app.add_middleware(CORSMiddleware, allow_origins=["*"])

    async def disconnect(scope: Scope, receive: Receive, send: Send) -> None:
        if b"started" in scope["query_string"]:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"a", "more_body": True})
        raise ClientDisconnect

    app.add_hot_route(
        HotRoute(
            "/gone", disconnect, name="gone", description="-", body=Body, response=Body, tag="Hot"
        )
    )
    client = TestClient(app, raise_server_exceptions=False)
    client.post("/gone")
    client.post("/gone?started")
    assert get_routes(sink) == [("/gone", "client_gone")] * 2
    assert [record.status for record in sink.records] == [499, 200]


def test_bug(app: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """The log of a bug has its traceback, but no values of variables, such as keys."""

    @app.get("/bug")
    def bug(request: Request) -> None:
        raise ValueError("broken endpoint")

    headers = {"authorization": "Bearer SECRET123"}
    response = TestClient(app, raise_server_exceptions=False).get("/bug", headers=headers)
    output = "".join(capsys.readouterr())
    assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")
    assert "broken endpoint" in output
    assert "SECRET123" not in output


def test_raw_mount(app: Gateway) -> None:
    """A mounted ASGI application may start its response without headers."""

    async def raw(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"raw"})

    app.mount("/raw", raw)
    assert TestClient(app).get("/raw/").text == "raw"


@pytest.mark.parametrize("method", ["POST", "OPTIONS"])
def test_docs_assets(app: Gateway, method: str) -> None:
    """Assets of the documentation are read-only."""
    response = TestClient(app).request(method, "/docs/assets/favicon.png")
    assert (response.status_code, response.json()["error"]["message"]) == (
        405,
        "Method Not Allowed",
    )


def test_unused_app() -> None:
    """Nothing keeps an application that is no longer used."""
    app = Gateway(sinks=[], clock=FakeClock(), lifespan=lambda _: nullcontext())
    TestClient(app).get("/docs")
    unused = weakref.ref(app)
    del app
    gc.collect()
    assert unused() is None
