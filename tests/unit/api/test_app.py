"""Hot routes are documented by FastAPI and dispatched ahead of its middleware stack."""

from contextlib import nullcontext

import pytest
from fastapi import Request
from fastapi.testclient import TestClient
from pydantic import BaseModel
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from maxgate.api.app import Gateway, HotRoute, send_json
from tests.fakes.asgi import RecordingSink, SentMessages, http_scope
from tests.fakes.clock import FakeClock


class Body(BaseModel):
    """A request body."""

    text: str


async def create_hot(scope: Scope, receive: Receive, send: Send) -> None:
    """Create something quickly."""
    await send_json(send, b'{"text":"hot"}')


ROUTE = HotRoute(
    "/hot", create_hot, body=Body, response=Body, tag="Hot", stream_type="text/event-stream"
)


@pytest.fixture
def sink() -> RecordingSink:
    """The sink of the application."""
    return RecordingSink()


@pytest.fixture
def app(sink: RecordingSink) -> Gateway:
    """An application with one hot route."""
    app = Gateway(sinks=[sink], clock=FakeClock(), lifespan=lambda _: nullcontext())
    app.add_hot_route(ROUTE)
    return app


@pytest.mark.parametrize(
    ("scope", "match"),
    [
        (http_scope("POST", "/hot"), Match.FULL),
        (http_scope("GET", "/hot"), Match.PARTIAL),
        (http_scope("POST", "/hot/"), Match.NONE),
        (http_scope("POST", "/llm/hot"), Match.NONE),
        (http_scope("POST", "/llm/hot") | {"root_path": "/llm"}, Match.FULL),
        (http_scope("POST", "/hot") | {"type": "websocket"}, Match.NONE),
    ],
)
def test_matches(scope: Scope, match: Match) -> None:
    """A hot route matches its exact path below the prefix, fully for POST."""
    found, child_scope = ROUTE.matches(scope)
    assert found is match
    assert child_scope.get("route") is (None if match is Match.NONE else ROUTE)


def test_openapi(app: Gateway) -> None:
    """The document has the name, docstring, body and responses of a hot route."""
    operation = app.openapi()["paths"]["/hot"]["post"]
    schema = {"$ref": "#/components/schemas/Body"}
    assert (operation["operationId"], operation["description"], operation["tags"]) == (
        "create_hot",
        "Create something quickly.",
        ["Hot"],
    )
    assert operation["requestBody"]["content"] == {"application/json": {"schema": schema}}
    assert operation["responses"]["200"]["content"] == {
        "application/json": {"schema": schema},
        "text/event-stream": {},
    }


@pytest.mark.parametrize("with_middleware", [False, True])
def test_dispatch(app: Gateway, sink: RecordingSink, *, with_middleware: bool) -> None:
    """A hot route is served and recorded under its path, with and without user middleware."""
    if with_middleware:

        @app.middleware("http")
        async def pass_on(request: Request, call_next: object) -> Response:
            return await call_next(request)  # type: ignore[operator,no-any-return]

    response = TestClient(app).post("/hot", json={})
    assert (response.status_code, response.json()) == (200, {"text": "hot"})
    assert [(record.route, record.outcome) for record in sink.records] == [("/hot", "ok")]


async def test_send_json() -> None:
    """A JSON response has its content type and length."""
    sent = SentMessages()
    await send_json(sent, b"{}")
    assert (sent.status, sent.headers, sent.body) == (
        200,
        {"content-type": "application/json", "content-length": "2"},
        b"{}",
    )
