"""Hot routes are documented by FastAPI and served as plain ASGI."""

from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from maxgate.api.hot_route import HotRoute, send_json
from tests.fakes.asgi import SentMessages, http_scope


class Body(BaseModel):
    """A request body."""

    text: str


async def create_hot(scope: Scope, receive: Receive, send: Send) -> None:
    await send_json(send, b'{"text":"hot"}')


ROUTE = HotRoute(
    "/hot",
    create_hot,
    name="create_hot",
    description="Create something quickly.",
    body=Body,
    response=Body,
    tag="Hot",
    stream_type="text/event-stream",
)


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
def test_matches(scope: dict[str, Any], match: Match) -> None:
    """A hot route matches its exact path below the prefix, fully for POST."""
    found, child_scope = ROUTE.matches(scope)
    assert found is match
    assert child_scope.get("route") is (None if match is Match.NONE else ROUTE)


def test_openapi() -> None:
    """The document has the name, description, body and responses of a hot route."""
    app = FastAPI()
    app.router.routes.append(ROUTE)
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


async def test_send_json() -> None:
    """A JSON response has its content type and length."""
    sent = SentMessages()
    await send_json(sent, b"{}")
    assert (sent.status, sent.headers, sent.body) == (
        200,
        {"content-type": "application/json", "content-length": "2"},
        b"{}",
    )
