"""The gateway behaves as any FastAPI application."""

import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, HTTPException, Request
from fastapi.security import HTTPBearer
from fastapi.testclient import TestClient
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse

from maxgate.api.app import Gateway
from maxgate.api.dependencies import get_catalog
from maxgate.app import create_app
from maxgate.errors import GatewayError
from maxgate.generation.catalog import ServedModel
from maxgate.generation.errors import ModelNotFound
from maxgate.model_cards.card import SamplingDefaults
from maxgate.settings import Settings
from tests.fakes.gateway import SMALL_CARD, TLS
from tests.fakes.max_server import FakeMax
from tests.fakes.raw_client import connect
from tests.fakes.server import serving

CHAT = {"messages": [{"role": "user", "content": "Hello"}]}
ORIGIN = {"origin": "https://app.example"}


@pytest.fixture
def app() -> Gateway:
    """A gateway whose engine is a fake MAX in the same process."""
    settings = Settings(engines=["http://engine"], cards=[SMALL_CARD])
    return create_app(settings, transport=httpx.ASGITransport(FakeMax()))


@pytest.fixture
def client(app: Gateway) -> Iterator[TestClient]:
    """A TestClient of the app, inside its lifespan."""
    with TestClient(app) as client:
        yield client


def test_instance(app: Gateway) -> None:
    """The application is a FastAPI instance."""
    assert isinstance(app, FastAPI)


def test_test_client(client: TestClient) -> None:
    """TestClient runs the lifespan and chats."""
    response = client.post("/v1/chat/completions", json=CHAT)
    assert response.status_code == 200
    assert response.json()["choices"][0]["message"]["content"]


def test_include_router(app: Gateway) -> None:
    """A router that a user includes serves and is documented beside the gateway's routes."""
    router = APIRouter(prefix="/extra")

    @router.get("/items/{number}")
    def read_item(number: int, tasks: BackgroundTasks, size: int = 1) -> dict[str, int]:
        tasks.add_task(lambda: None)
        return {"number": number, "size": size}

    app.include_router(router)
    with TestClient(app) as client:
        assert client.get("/extra/items/7?size=2").json() == {"number": 7, "size": 2}
        assert "/extra/items/{number}" in client.get("/openapi.json").json()["paths"]


def test_validation_error(app: Gateway) -> None:
    """Invalid parameters of a user's endpoint give a 400 in OpenAI's shape, never a 422."""

    @app.get("/items/{number}")
    def read_item(number: int) -> int:
        return number

    with TestClient(app) as client:
        response = client.get("/items/seven")
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["type"]) == (
        400,
        "number",
        "invalid_request_error",
    )


def test_http_exception(app: Gateway) -> None:
    """HTTPException keeps its status, detail and headers, in OpenAI's shape."""

    @app.get("/teapot")
    def teapot() -> None:
        raise HTTPException(418, "short and stout", {"x-pot": "tea"})

    with TestClient(app) as client:
        response = client.get("/teapot")
    assert (response.status_code, response.headers["x-pot"]) == (418, "tea")
    assert response.json() == {
        "error": {
            "message": "short and stout",
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        }
    }


def test_bug_in_endpoint(app: Gateway) -> None:
    """An exception in a user's endpoint is a 500 that reveals nothing."""

    @app.get("/broken")
    def broken() -> None:
        raise RuntimeError("secret")

    with TestClient(app, raise_server_exceptions=False) as client:
        response = client.get("/broken")
    assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")
    assert "secret" not in response.text


def test_exception_handler(app: Gateway) -> None:
    """A user's exception handler sees errors of hot routes too."""

    @app.exception_handler(GatewayError)
    async def handle(request: Request, error: GatewayError) -> PlainTextResponse:
        return PlainTextResponse(f"custom {error.code}", error.status)

    with TestClient(app) as client:
        response = client.post("/v1/chat/completions", json={**CHAT, "model": "gpt-4"})
    assert (response.status_code, response.text) == (404, "custom model_not_found")


def test_dependency_overrides(app: Gateway) -> None:
    """Tests replace the catalog through dependency_overrides."""
    model = ServedModel("mine", "mine", "engine", 10, 1, SamplingDefaults())

    class OneModel:
        def find(self, name: str | None, task: str | None = None) -> ServedModel:
            raise ModelNotFound(str(name))

        def list(self) -> list[ServedModel]:
            return [model]

    app.dependency_overrides[get_catalog] = OneModel
    with TestClient(app) as client:
        assert [one["id"] for one in client.get("/v1/models").json()["data"]] == ["mine"]


def test_security_dependency(app: Gateway) -> None:
    """A security scheme of a user's route shows up in the OpenAPI document."""
    bearer = HTTPBearer()

    @app.get("/private")
    def private(token: Annotated[object, Depends(bearer)]) -> str:
        return "secret"

    with TestClient(app) as client:
        assert client.get("/private").status_code == 401
        schemes = client.get("/openapi.json").json()["components"]["securitySchemes"]
    assert schemes == {"HTTPBearer": {"type": "http", "scheme": "bearer"}}


def test_middleware_sees_hot_routes(app: Gateway) -> None:
    """Middleware that a user adds runs for hot and ordinary routes, with the context in place."""
    seen: list[tuple[str, bool]] = []

    @app.middleware("http")
    async def note(request: Request, call_next: Callable[..., object]) -> object:
        seen.append((request.url.path, request.state.context.record.request_id != ""))
        return await call_next(request)

    with TestClient(app) as client:
        assert client.post("/v1/chat/completions", json=CHAT).status_code == 200
        with client.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as stream:
            assert list(stream.iter_lines())[-2] == "data: [DONE]"
        client.get("/v1/models")
    assert seen == [("/v1/chat/completions", True)] * 2 + [("/v1/models", True)]


def test_cors(app: Gateway) -> None:
    """CORSMiddleware handles preflights, and adds its headers to responses of hot routes."""
    app.add_middleware(
        CORSMiddleware, allow_origins=["https://app.example"], allow_methods=["POST"]
    )
    with TestClient(app) as client:
        headers = {"access-control-request-method": "POST", **ORIGIN}
        preflight = client.options("/v1/chat/completions", headers=headers)
        chat = client.post("/v1/chat/completions", json=CHAT, headers=ORIGIN)
        error = client.post("/v1/chat/completions", json={}, headers=ORIGIN)
    assert [
        (response.status_code, response.headers["access-control-allow-origin"])
        for response in (preflight, chat, error)
    ] == [(200, "https://app.example"), (200, "https://app.example"), (400, "https://app.example")]


def test_mount_in_gateway(app: Gateway) -> None:
    """A user mounts another application below the gateway."""
    other = FastAPI()

    @other.get("/hello")
    def hello() -> str:
        return "hello"

    app.mount("/other", other)
    with TestClient(app) as client:
        assert client.get("/other/hello").json() == "hello"


def test_mounted_gateway(app: Gateway) -> None:
    """The gateway works below a prefix of another application, hot routes included."""
    parent = FastAPI(lifespan=app.router.lifespan_context)
    parent.mount("/llm", app)
    with TestClient(parent) as client:
        statuses = [
            client.post("/llm/v1/chat/completions", json=CHAT).status_code,
            client.get("/llm/v1/models").status_code,
            client.get("/llm/health/live").status_code,
            client.post("/v1/chat/completions", json=CHAT).status_code,
        ]
        docs = client.get("/llm/docs").text
    assert statuses == [200, 200, 200, 404]
    assert '"/llm/docs/assets/swagger-ui.css"' in docs
    assert "'/llm/openapi.json'" in docs


def test_paths_without_version(app: Gateway) -> None:
    """A user's route comes before the gateway's route of the same path below /v1."""
    app.get("/models")(lambda: "mine")
    parent = FastAPI(lifespan=app.router.lifespan_context)
    parent.mount("/llm", app)
    with TestClient(parent) as client:
        assert client.get("/llm/models").json() == "mine"
        assert client.post("/llm/chat/completions", json=CHAT).status_code == 200


@pytest.mark.parametrize("own_server", [True, False], ids=["maxgate serve", "plain uvicorn"])
async def test_root_path(app: Gateway, *, own_server: bool) -> None:
    """`--root-path` keeps routes reachable, as it does for any FastAPI application."""
    async with (
        serving(app, own_protocol=own_server, root_path="/api") as url,
        httpx.AsyncClient(base_url=url, verify=TLS) as client,
    ):
        assert (await client.get("/health/live")).status_code == 200
        for path in ("/v1/chat/completions", "/chat/completions"):
            assert (await client.post(path, json=CHAT)).status_code == 200
        page = (await client.get("/docs")).text
    assert "'/api/openapi.json'" in page


@pytest.mark.parametrize("own_server", [True, False], ids=["maxgate serve", "plain uvicorn"])
async def test_limit_concurrency(app: Gateway, *, own_server: bool) -> None:
    """`--limit-concurrency` refuses requests above the limit with 503."""
    async with (
        serving(app, own_protocol=own_server, limit_concurrency=1) as url,
        httpx.AsyncClient(base_url=url, verify=TLS) as client,
    ):
        assert (await client.get("/health/live")).status_code == 503


def test_head_and_options(client: TestClient) -> None:
    """HEAD works on GET routes without a body; OPTIONS lists the methods."""
    head = client.head("/v1/models")
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) > 0
    options = client.options("/v1/models")
    assert (options.status_code, options.headers["allow"]) == (204, "GET, HEAD, POST, OPTIONS")
    assert client.options("/v1/chat/completions").headers["allow"] == "POST, OPTIONS"
    assert client.options("/nowhere").status_code == 404
    assert client.head("/v1/chat/completions").status_code == 405


def test_docs_offline(client: TestClient) -> None:
    """The documentation page loads scripts and styles from the gateway only."""
    page = client.get("/docs").text
    links = re.findall(r"""(?:src|href)=["']([^"']+)""", page)
    assert links
    assert [link for link in links if link.startswith(("http", "//"))] == []
    assert {link: client.get(link).status_code for link in links} == dict.fromkeys(links, 200)


def test_state_and_routes(app: Gateway) -> None:
    """State is shared with endpoints, and every hot route is listed with its methods."""
    app.state.answer = 42

    @app.get("/answer")
    def read(request: Request) -> int:
        answer: int = request.app.state.answer
        return answer

    with TestClient(app) as client:
        assert client.get("/answer").json() == 42
    hot = {route.path for route in app.routes if getattr(route, "methods", None) == {"POST"}}
    assert hot == {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/moderations",
    }


@pytest.fixture
async def plain_url(app: Gateway) -> AsyncIterator[str]:
    """The application under uvicorn's own protocol, as with `uvicorn api_server:app`."""
    async with serving(app, own_protocol=False) as url:
        yield url


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([("x-large", "a" * 40_000), ("content-length", "2")], 431),
        ([("host", "a"), ("host", "b"), ("content-length", "2")], 400),
        ([("content-length", "2"), ("content-length", "3")], 400),
        ([("content-length", "2"), ("transfer-encoding", "chunked")], 400),
    ],
)
async def test_header_limits_under_plain_uvicorn(
    plain_url: str, headers: list[tuple[str, str]], status: int
) -> None:
    """Header protections hold under plain uvicorn too, as far as ASGI allows."""
    hosts = [] if any(name == "host" for name, _ in headers) else [("host", "x")]
    lines = "".join(f"{name}: {value}\r\n" for name, value in [*hosts, *headers])
    request = f"POST /v1/chat/completions HTTP/1.1\r\n{lines}\r\n{{}}".encode()
    assert await read_status(plain_url, request) == status


async def read_status(url: str, request: bytes) -> int:
    """Send these bytes and return the status of the response."""
    reader, writer = await connect(url)
    writer.write(request)
    status_line = await reader.readline()
    writer.close()
    return int(status_line.split()[1])


async def test_slow_body_under_plain_uvicorn() -> None:
    """A body that arrives too slowly gets 408 under plain uvicorn as well."""
    app = create_app(
        Settings(engines=["http://127.0.0.1:9"], server={"request_read_timeout": 0.05})
    )
    async with serving(app, own_protocol=False) as url:
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{"
        assert await read_status(url, head) == 408
