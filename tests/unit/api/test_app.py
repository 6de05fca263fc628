"""The FastAPI application dispatches hot routes and records every request."""

from collections.abc import Awaitable, Callable
from contextlib import nullcontext

import pytest
from fastapi import Request
from fastapi.testclient import TestClient
from pydantic import BaseModel
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from maxgate.api.app import Gateway
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
