"""Clients authenticate by keys before their body is read, and nothing shows a key."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from starlette.websockets import WebSocket
from typing_extensions import override

from maxgate.api.app import Gateway as Application
from maxgate.app import create_app
from maxgate.auth.api_key import generate_key
from maxgate.settings import Settings
from tests.clients.openai_client import create_client
from tests.fakes.api_keys import KeyFolder, bearer
from tests.fakes.asgi import SentMessages, http_scope
from tests.fakes.gateway import (
    EMBEDDING_CARD,
    EMBEDDING_MODEL,
    SMALL_CARD,
    StartGateway,
)
from tests.fakes.max_server import FakeMax
from tests.fakes.raw_client import send_bytes
from tests.fakes.server import serving

MODEL = "smollm2-135m-instruct"
HELLO = [{"role": "user", "content": "Hello"}]
REFUSAL = {
    "error": {
        "message": "Incorrect API key provided. Send a valid key as `Authorization: Bearer KEY`.",
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_api_key",
    }
}
OPEN = {"/health/live", "/health/ready"}
MANY = 1_000_000  # failures, where their limit is not tested


class RecordingMax(FakeMax):
    """Keeps the headers of all requests."""

    seen = ""

    @override
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen += repr(scope.get("headers")) + scope.get("query_string", b"").decode()
        await super().__call__(scope, receive, send)


@pytest.fixture
def keys(tmp_path: Path) -> KeyFolder:
    """A folder without keys."""
    return KeyFolder(tmp_path)


def with_keys(keys: KeyFolder, **auth: Any) -> dict[str, Any]:
    """Return settings with these keys and without a limit of failures."""
    settings = keys.settings
    return {**settings, "auth": {**settings["auth"], "max_failures": MANY, **auth}}


def assert_refused(response: httpx.Response) -> None:
    """Check that this is the one 401."""
    assert (response.status_code, response.json()) == (401, REFUSAL)
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.headers["x-should-retry"] == "false"
    assert response.headers["x-request-id"]


def list_routes(routes: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """List every method and path of the route table, with names for parameters."""
    for route in routes:
        if hasattr(route, "original_router"):  # FastAPI's entry for an included router
            yield from list_routes(route.original_router.routes)
            continue
        path = re.sub(r"{[^}]*}", "name", route.path)
        for method in sorted({*(getattr(route, "methods", None) or {"GET"}), "OPTIONS"}):
            yield method, path


async def call(app: Application, method: str, path: str, *, body: bool) -> SentMessages:
    """Send a request without a key; fails if its body is read before the response is sent."""
    sent, headers = SentMessages(), [(b"host", b"localhost")]
    if body:
        headers += [(b"content-type", b"application/json"), (b"content-length", b"2")]

    async def receive() -> dict[str, Any]:
        assert body
        assert [message["type"] for message in sent.messages] == [
            "http.response.start",
            "http.response.body",
        ]
        return {"type": "http.request", "body": b"{}", "more_body": False}

    scope = http_scope(method, path, headers=headers)
    await app(
        {**scope, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "query_string": b""},
        receive,
        sent,
    )
    return sent


async def test_all_routes(keys: KeyFolder) -> None:
    """Every route but the probes, with and without a body, gives 401 before the body is read."""
    app = create_app(Settings(**with_keys(keys)))
    others = ["/", "/nowhere", "/admin", "/chat/completions", "/models", "/docs/assets/x.css"]
    routes = [*list_routes(app.routes), *(("POST", path) for path in others)]
    assert ("POST", "/v1/chat/completions") in routes
    assert ("POST", "/admin/reload") in routes
    assert ("GET", "/docs/assets") in routes

    for method, path in routes:
        for body in (False, True):
            if path in OPEN:
                continue
            sent = await call(app, method, path, body=body)
            assert sent.status == 401, (method, path)
            assert json.loads(sent.body) == REFUSAL
    for path in OPEN:
        assert (await call(app, "GET", path, body=False)).status in {200, 503}


@pytest.mark.parametrize("mounted", [False, True])
async def test_prefix(keys: KeyFolder, mounted: bool) -> None:
    """A prefix, by `root_path` or in the path only, opens nothing."""
    app = create_app(Settings(**with_keys(keys)))
    for path in ("/v1/models", "/health", "/health/live/../../v1/models", "/xx/health/live"):
        sent = SentMessages()
        scope = http_scope("GET", f"/x{path}" if mounted else path)
        scope |= {"root_path": "/x", "client": ("127.0.0.1", 1)}
        await app(scope, lambda: asyncio.Event().wait(), sent)
        assert sent.status == 401, path


@pytest.mark.parametrize("stream", [False, True])
async def test_chat(start_gateway: StartGateway, keys: KeyFolder, *, stream: bool) -> None:
    """A valid key in any of three headers chats; the engine never gets it."""
    key, engine = keys.add(), RecordingMax()
    async with start_gateway(engine, **with_keys(keys)) as gateway:
        for headers in (bearer(key), {"api-key": key}, {"x-api-key": key}):
            body = {"messages": HELLO, "stream": stream}
            response = await gateway.client.post("/v1/chat/completions", json=body, headers=headers)
            assert response.status_code == 200
    assert len(engine.requests) == 3
    assert key not in engine.seen + json.dumps(engine.requests)
    assert "authorization" not in engine.seen


async def test_credential_check(start_gateway: StartGateway, keys: KeyFolder) -> None:
    """Proxies learn from a status whether a credential is valid, and no request is recorded."""
    valid, elsewhere = keys.add("a"), keys.add("b", networks=["10.0.0.0/8"])
    async with start_gateway(**with_keys(keys)) as gateway:
        client = gateway.client
        assert_refused(await client.get("/auth"))
        assert_refused(await client.get("/auth", headers=bearer(elsewhere)))
        for method in ("GET", "HEAD"):
            response = await client.request(method, "/auth", headers=bearer(valid))
            assert (response.status_code, response.content) == (204, b"")
        metrics = (await client.get("/metrics", headers=bearer(valid))).json()
        assert metrics["requests"]["by_outcome"] == {}
    async with start_gateway() as gateway:
        assert (await gateway.client.get("/auth")).status_code == 204


async def test_refused(start_gateway: StartGateway, keys: KeyFolder) -> None:
    """Whatever is wrong with a key, the response is the same."""
    valid, revoked = keys.add("a"), keys.add("b", disabled=True)
    expired = keys.add("c", expires="2020-01-01")
    elsewhere = keys.add("d", networks=["10.0.0.0/8"])
    async with start_gateway(**with_keys(keys)) as gateway:
        wrong: list[dict[str, str]] = [bearer(k) for k in (revoked, expired, elsewhere)]
        wrong += [bearer(generate_key()), bearer(valid[:-1]), bearer(valid.swapcase())]
        wrong += [
            {},
            {"authorization": "Bearer"},
            bearer("sk-' UNION SELECT 1--"),
            bearer("k" * 8192),
        ]
        wrong += [{"authorization": f"Basic {valid}"}, {**bearer(valid), "api-key": expired}]
        for headers in wrong:
            for path in ("/v1/models", "/health", "/nowhere"):
                assert_refused(await gateway.client.get(path, headers=headers))
            assert_refused(
                await gateway.client.post(
                    "/v1/chat/completions", content=b"not JSON", headers=headers
                )
            )
        query = {"api_key": valid, "key": valid, "access_token": valid}
        assert_refused(await gateway.client.get("/v1/models", params=query))
        body = {"messages": HELLO, "api_key": valid}
        assert_refused(await gateway.client.post("/v1/chat/completions", json=body))
        assert (await gateway.client.get("/v1/models", headers=bearer(valid))).status_code == 200
        assert gateway.engine.requests == []


MALFORMED = {
    b"authorization: Bearer %b\r\nauthorization: Bearer %b": 401,
    b"authorization: Bearer %b\r\nAuthorization: Basic x": 401,
    b"authorization: Bearer %b, Bearer %b": 401,
    b"authorization:Bearer\t%b": 401,
    b"authorization: Bearer %b\xc3\xa9": 401,
    b"authorization: Bearer \xff%b": 401,
    b"authorization: Bearer\r\nx: %b": 401,
    b"authorization_: Bearer %b": 401,
    b"x-authorization: Bearer %b": 401,
    b"proxy-authorization: Bearer %b": 401,
    b"x-forwarded-authorization: Bearer %b": 401,
    b"cookie: authorization=%b": 401,
    b"authorization: Bearer %b\0": 400,
    b"authorization: Bearer\r\n %b": 400,
    b"authorization : Bearer %b": 400,
    b"authorization: Bearer %b" + b"a" * 40_000: 431,
    b"AUTHORIZATION: bearer   %b  ": 200,
}


@pytest.mark.parametrize(("header", "status"), MALFORMED.items(), ids=range(len(MALFORMED)))
async def test_malformed(
    start_gateway: StartGateway, keys: KeyFolder, header: bytes, status: int
) -> None:
    """Headers that parsers could read in two ways are refused, and shown nowhere."""
    key = keys.add().encode()
    async with start_gateway(**with_keys(keys)) as gateway:
        request = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
        header = header.replace(b"%b", key)
        head, body = await send_bytes(gateway.url, request + header + b"\r\n\r\n")
    assert int(head.split()[1]) == status, head
    assert key not in head + body


@pytest.mark.parametrize("own_protocol", [True, False])
@pytest.mark.parametrize(
    "start",
    [
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n",
        b"POST /v1/chat/completions HTTP/1.0\r\nhost: localhost\r\n",
    ],
)
async def test_large_body(keys: KeyFolder, start: bytes, *, own_protocol: bool) -> None:
    """A client that is still sending a large body gets its 401, however its connection ends."""
    app = create_app(Settings(**with_keys(keys)))
    size = 20_000_000
    async with serving(app, own_protocol=own_protocol) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(start + b"content-length: %d\r\n\r\n" % size)
        head = await reader.readuntil(b"\r\n\r\n")  # before any of the body
        for _ in range(20):
            writer.write(b" " * (size // 20))
            await writer.drain()
        body = await reader.readexactly(len(json.dumps(REFUSAL, separators=(",", ":"))))
        writer.close()
    assert head.startswith(b"HTTP/1.1 401 ")
    assert json.loads(body) == REFUSAL


async def test_chunked_body(start_gateway: StartGateway, keys: KeyFolder) -> None:
    """A connection goes on after a refused request with a chunked body."""
    key = keys.add()

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 10_000

    async with start_gateway(**with_keys(keys)) as gateway:
        refused = await gateway.client.post("/v1/chat/completions", content=pieces())
        assert_refused(refused)
        response = await gateway.client.get("/v1/models", headers=bearer(key))
        assert response.status_code == 200


async def test_failure_limit(start_gateway: StartGateway, keys: KeyFolder) -> None:
    """Too many failures get 429 with Retry-After; a valid key is never locked out."""
    key = keys.add()
    async with start_gateway(**with_keys(keys, max_failures=3)) as gateway:
        responses = [await gateway.client.get("/v1/models") for _ in range(5)]
        assert [response.status_code for response in responses] == [401, 401, 401, 429, 429]
        limited = responses[-1]
        assert limited.json()["error"]["code"] == "rate_limit_exceeded"
        assert 1 <= int(limited.headers["retry-after"]) <= 60
        assert (await gateway.client.get("/v1/models", headers=bearer(key))).status_code == 200
        metrics = await gateway.client.get(
            "/metrics", headers={**bearer(key), "accept": "text/plain"}
        )
    counts = dict(re.findall(r'authentications_total{result="(\w+)"} (\S+)', metrics.text))
    assert counts == {"accepted": "2.0", "missing": "3.0", "limited": "2.0"}


@pytest.mark.parametrize("opened", [False, True])
async def test_operators_pages(
    start_gateway: StartGateway, keys: KeyFolder, *, opened: bool
) -> None:
    """Metrics and documentation need a key, unless a setting opens them."""
    key = keys.add()
    auth = {"open_metrics": opened, "open_docs": opened}
    async with start_gateway(**with_keys(keys, **auth)) as gateway:
        for path in (
            "/health",
            "/metrics",
            "/docs",
            "/docs/assets/swagger-ui.css",
            "/openapi.json",
        ):
            response = await gateway.client.get(path)
            assert response.status_code == (200 if opened else 401), path
            assert (await gateway.client.get(path, headers=bearer(key))).status_code == 200


def test_openapi(keys: KeyFolder) -> None:
    """The OpenAPI document tells client generators and the documentation to ask for a key."""
    document = create_app(Settings(**with_keys(keys))).openapi()
    assert document["security"] == [{"key": []}]
    assert document["components"]["securitySchemes"] == {
        "key": {"type": "http", "scheme": "bearer"}
    }
    assert "security" not in create_app(Settings()).openapi()


async def test_admin(start_gateway: StartGateway, keys: KeyFolder) -> None:
    """The admin API needs the key of an admin, and still a client on this machine."""
    key, admin = keys.add("a"), keys.add("b", admin=True)
    async with start_gateway(**with_keys(keys)) as gateway:
        get = gateway.client.get
        assert_refused(await get("/admin/engines"))
        response = await get("/admin/engines", headers=bearer(key))
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (403, "insufficient_permissions")
        assert (await get("/running", headers=bearer(key))).status_code == 403
        assert (await get("/admin/engines", headers=bearer(admin))).status_code == 200
        proxied = {**bearer(admin), "x-forwarded-for": "127.0.0.1"}
        assert (await get("/admin/engines", headers=proxied)).status_code == 403
        assert (await get("/v1/models", headers=bearer(admin))).status_code == 200


async def test_models(start_gateway: StartGateway, keys: KeyFolder, embedding_model: Path) -> None:
    """A key with a list of models uses and sees only those; others do not exist for it."""
    del embedding_model  # the gateway reads its tokenizer
    key = keys.add(models=[MODEL])
    engine = FakeMax(models=[MODEL, EMBEDDING_MODEL])
    settings = {**with_keys(keys), "cards": [SMALL_CARD, EMBEDDING_CARD]}
    async with start_gateway(engine, **settings) as gateway:
        gateway.client.headers = httpx.Headers(bearer(key))
        listed = (await gateway.client.get("/v1/models")).json()["data"]
        assert [model["id"] for model in listed] == [MODEL]
        assert (await gateway.client.get("/health")).json()["models"] == [MODEL]
        assert (await gateway.chat()).status_code == 200
        assert (await gateway.chat(model="smollm2")).status_code == 200
        for response in (
            await gateway.embed("a", model=EMBEDDING_MODEL),
            await gateway.client.get(f"/v1/models/{EMBEDDING_MODEL}"),
            await gateway.client.post(
                "/v1/completions", json={"prompt": "a", "model": EMBEDDING_MODEL}
            ),
        ):
            error = response.json()["error"]
            assert (response.status_code, error["code"]) == (404, "model_not_found")
            assert (error["type"], error["param"]) == ("invalid_request_error", "model")


async def test_service_class(start_gateway: StartGateway, keys: KeyFolder) -> None:
    """A request gets the class of its key, and no better one."""
    low, free = keys.add("a", service_class="flex"), keys.add("b")
    async with start_gateway(**with_keys(keys)) as gateway:
        for key, tier, expected in (
            (low, None, "flex"),
            (low, "priority", "flex"),
            (free, None, "default"),
            (free, "priority", "priority"),
        ):
            gateway.client.headers = httpx.Headers(bearer(key))
            response = await gateway.chat(service_tier=tier)
            assert response.json()["service_tier"] == expected


async def test_official_sdk(start_gateway: StartGateway, keys: KeyFolder) -> None:
    """OpenAI's SDK chats with a good key, and raises its own errors without retries."""
    key = keys.add(models=[MODEL])
    async with (
        start_gateway(**with_keys(keys)) as gateway,
        create_client(gateway.url).with_options(api_key=key, max_retries=2) as client,
    ):
        completion = await client.chat.completions.create(model="smollm2", messages=HELLO)
        assert completion.choices[0].finish_reason == "stop"
        with pytest.raises(openai.NotFoundError) as hidden:
            await client.chat.completions.create(model="gpt-4o", messages=HELLO)
        assert hidden.value.code == "model_not_found"
        with pytest.raises(openai.AuthenticationError) as refused:
            await client.with_options(api_key=generate_key()).models.list()
        assert refused.value.code == "invalid_api_key"
        assert refused.value.type == "invalid_request_error"
        metrics = (await gateway.client.get("/metrics", headers=bearer(key))).json()
    assert metrics["requests"]["by_outcome"] == {"ok": 1, "client_error": 2}


async def test_azure_client(start_gateway: StartGateway, keys: KeyFolder) -> None:
    """The header of OpenAI's client for Azure authenticates, too."""
    key = keys.add()
    async with (
        start_gateway(**with_keys(keys)) as gateway,
        openai.AsyncAzureOpenAI(
            base_url=f"{gateway.url}/v1", api_key=key, api_version="2024-10-21"
        ) as client,
    ):
        assert [model.id async for model in client.models.list()] == [MODEL]


async def test_preflight(start_gateway: StartGateway, keys: KeyFolder) -> None:
    """Pages may ask without a key whether they may send one, and can read a 401."""
    origin = "https://chat.example.org"
    settings = {**with_keys(keys), "server": {"cors_origins": [origin]}}
    async with start_gateway(**settings) as gateway:
        headers = {
            "origin": origin,
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization",
        }
        response = await gateway.client.options("/v1/chat/completions", headers=headers)
        assert response.status_code == 200
        assert "authorization" in response.headers["access-control-allow-headers"]
        refused = await gateway.client.get("/v1/models", headers={"origin": origin})
        assert_refused(refused)
        assert refused.headers["access-control-allow-origin"] == origin
        for answered in (response, refused):
            assert "access-control-allow-credentials" not in answered.headers


@pytest.mark.parametrize(
    ("mode", "address", "served"),
    [
        (None, "127.0.0.1", True),
        (None, "::1", True),
        (None, "::ffff:127.0.0.1", True),
        (None, "localhost", True),
        (None, "10.0.0.5", False),
        (None, "0.0.0.0", False),
        (None, "::ffff:10.0.0.5", False),
        (None, "2001:db8::1", False),
        ("none", "10.0.0.5", True),
    ],
)
async def test_exposed(mode: str | None, address: str, *, served: bool) -> None:
    """Until `auth.mode` is set, requests that arrive from outside get 503; probes never do."""
    app = create_app(Settings(auth={"mode": mode}))  # type: ignore[arg-type]
    for path in ("/v1/models", "/docs", "/health/live", "/health/ready"):
        sent = SentMessages()
        scope = http_scope(path=path, headers=[(b"host", b"gateway")])
        scope |= {"query_string": b"", "server": (address, 8000), "client": ("10.0.0.9", 1)}
        await app(scope, lambda: asyncio.Event().wait(), sent)
        code = json.loads(sent.body).get("error", {}).get("code") if path == "/v1/models" else ""
        if path == "/v1/models":
            assert (code != "authentication_not_configured") is served
        elif path == "/docs":
            assert sent.status == (200 if served else 503)
        elif path == "/health/live":
            assert sent.status == 200


async def test_websockets(keys: KeyFolder) -> None:
    """WebSockets of a program that embeds the gateway are refused where callers need a key."""
    for settings, server, served in (
        (Settings(), "127.0.0.1", True),
        (Settings(), "10.0.0.5", False),
        (Settings(**with_keys(keys)), "127.0.0.1", False),
    ):
        app = create_app(settings)

        @app.websocket("/ws")
        async def echo(websocket: WebSocket) -> None:
            await websocket.accept()

        messages: list[Any] = []

        async def send(message: Any, kept: list[Any] = messages) -> None:
            kept.append(message)

        async def receive() -> dict[str, Any]:
            return {"type": "websocket.connect"}

        scope = {"type": "websocket", "path": "/ws", "headers": [], "query_string": b""}
        await app({**scope, "server": (server, 8000), "subprotocols": []}, receive, send)
        assert (messages[0]["type"] == "websocket.accept") is served
