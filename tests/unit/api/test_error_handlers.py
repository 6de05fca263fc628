"""Error responses of a FastAPI application have OpenAI's shape."""

from datetime import date
from typing import Annotated

import pytest
from fastapi import FastAPI, Header, HTTPException, Query
from fastapi.testclient import TestClient
from starlette.routing import Router

from maxgate.api.error_handlers import add_error_handlers, allowed_methods
from maxgate.errors import InvalidRequest
from tests.fakes.asgi import http_scope


@pytest.fixture
def app() -> FastAPI:  # noqa: C901  # one endpoint per kind of error
    """An application with the error handlers and one endpoint per kind of error."""
    app = FastAPI()
    add_error_handlers(app)

    @app.get("/invalid")
    def invalid() -> None:
        raise InvalidRequest("No.", param="a", code="invalid_value")

    @app.get("/teapot")
    def teapot() -> None:
        raise HTTPException(418, "Short and stout.")

    @app.get("/items/{number}")
    def read_item(number: int) -> int:
        return number

    @app.get("/missing")
    def missing() -> None:
        raise HTTPException(404)

    @app.get("/refused")
    def refused() -> None:
        raise HTTPException(405, "Not here.", {"x-reason": "policy"})

    @app.get("/structured")
    def structured() -> None:
        raise HTTPException(400, {"a": [1]})

    @app.get("/header")
    def read_header(x_api_key: Annotated[str, Header()]) -> str:
        return x_api_key

    @app.get("/day")
    def read_day(day: Annotated[date, Query(gt=date(2020, 1, 1))]) -> date:
        return day

    @app.get("/redirect")
    def redirect() -> None:
        raise HTTPException(307, headers={"location": "/day"})

    @app.get("/empty")
    def empty() -> None:
        raise HTTPException(204)

    @app.get("/bug")
    def bug() -> None:
        raise RuntimeError("secret")

    return app


@pytest.mark.parametrize(
    ("method", "path", "status", "message", "param", "code"),
    [
        ("GET", "/invalid", 400, "No.", "a", "invalid_value"),
        ("GET", "/teapot", 418, "Short and stout.", None, None),
        ("GET", "/missing", 404, "Not Found", None, None),
        ("GET", "/refused", 405, "Not here.", None, None),
        ("GET", "/structured", 400, '{"a": [1]}', None, None),
        (
            "GET",
            "/header",
            400,
            "Missing required parameter: 'x-api-key'.",
            "x-api-key",
            "missing_required_parameter",
        ),
        (
            "GET",
            "/day?day=2019-01-01",
            400,
            "Invalid value for 'day': it must be greater than 2020-01-01.",
            "day",
            "invalid_value",
        ),
        (
            "GET",
            "/none",
            404,
            "Unknown path: GET /none. The API begins with /v1, such as /v1/chat/completions; on "
            "the gateway's own port, GET /docs lists all routes.",
            None,
            "not_found",
        ),
        (
            "PUT",
            "/teapot",
            405,
            "PUT is not allowed for /teapot; use GET, HEAD.",
            None,
            "method_not_supported",
        ),
        (
            "GET",
            "/bug",
            500,
            "The gateway failed to process the request. The logs have the details.",
            None,
            "internal_error",
        ),
    ],
)
def test_error_response(
    app: FastAPI, method: str, path: str, status: int, message: str, param: str, code: str
) -> None:
    """Each kind of exception has its status and all four keys of an error."""
    response = TestClient(app, raise_server_exceptions=False).request(method, path)
    kind = "server_error" if status >= 500 else "invalid_request_error"
    assert (response.status_code, response.json()) == (
        status,
        {"error": {"message": message, "type": kind, "param": param, "code": code}},
    )


def test_validation_error(app: FastAPI) -> None:
    """An invalid path parameter is named without the place where it was found."""
    response = TestClient(app).get("/items/seven")
    assert (response.status_code, response.json()["error"]["param"]) == (400, "number")


def test_options(app: FastAPI) -> None:
    """OPTIONS lists the methods of a path in `Allow`."""
    response = TestClient(app).options("/teapot")
    assert (response.status_code, response.headers["allow"]) == (204, "GET, HEAD, OPTIONS")


@pytest.mark.parametrize(
    ("path", "methods"), [("/a", ["GET", "POST"]), ("/a/1", ["DELETE"]), ("/b", [])]
)
def test_allowed_methods(path: str, methods: list[str]) -> None:
    """Only the methods of routes that match the path are allowed."""
    app = FastAPI()
    app.get("/a")(lambda: None)
    app.post("/a")(lambda: None)
    app.delete("/a/{item}")(lambda item: None)
    router: Router = app.router
    assert allowed_methods(http_scope("PATCH", path), router) == methods


def test_statuses_below_400(app: FastAPI) -> None:
    """An HTTPException below 400 is no error: a redirect keeps its target, 204 has no body."""
    client = TestClient(app, follow_redirects=False)
    redirect, empty = client.get("/redirect"), client.get("/empty")
    assert (redirect.status_code, redirect.headers["location"]) == (307, "/day")
    assert (empty.status_code, empty.content) == (204, b"")
