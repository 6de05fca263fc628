"""Credentials are read from headers, verified, and counted by their result."""

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from typing_extensions import override

from maxgate.api.authentication import Authentication, drain_body, find_credential
from maxgate.auth.addresses import FailureLimit
from maxgate.auth.identity import (
    AUTHENTICATION_ERRORS,
    AuthenticationUnavailable,
    Identity,
    InvalidCredential,
    NoModelAccess,
    TooManyFailures,
    Verifier,
)
from maxgate.generation.context import Principal, ProjectModels, RequestContext
from tests.fakes.asgi import http_scope
from tests.fakes.clock import FakeClock
from tests.fakes.requests import request_context

PRINCIPAL = Principal("red", "red", "ann", "key_1", "default")
PROJECT_MODELS = ProjectModels(frozenset({"n"}), is_denied=True)


class FakeVerifier(Verifier):
    """Knows the credentials `good`, `office` and `admin`, and loses its database for `down`."""

    @override
    def accepts(self, credential: str) -> bool:
        return not credential.startswith("other")

    @override
    async def verify(self, credential: str) -> Identity:
        if credential == "down":
            raise AuthenticationUnavailable("The database is down.")
        if credential == "admin":
            return Identity(PRINCIPAL, frozenset(), is_admin=True, can_use_models=False)
        if credential not in {"good", "office"}:
            raise InvalidCredential("unknown_key")
        networks = ("10.0.0.0/8",) if credential == "office" else ()
        return Identity(PRINCIPAL, frozenset({"m"}), networks, project_models=PROJECT_MODELS)


class Edge:
    """An authentication with its counts and its failures."""

    def __init__(self, **options: Any) -> None:
        self.results: list[str] = []
        self.clock = FakeClock()
        limit = FailureLimit(2, self.clock)
        self._authentication = Authentication(
            [FakeVerifier()], limit, self.results.append, **options
        )
        self.authenticate = self._authentication.authenticate

    async def send(self, path: str = "/v1/models", peer: str = "10.0.0.1", **headers: str) -> Any:
        """Return the context of an authenticated request, or the error."""
        context = request_context()
        given = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
        scope = {**http_scope(path=path), "client": (peer, 1), "state": {"context": context}}
        try:
            await self._authentication.authenticate(scope, path, given)
        except AUTHENTICATION_ERRORS as error:
            return error
        return context


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"authorization": "Bearer k"}, "k"),
        ({"authorization": "bearer k"}, "k"),
        ({"authorization": "BEARER   k  "}, "k"),
        ({"api-key": "k"}, "k"),
        ({"x-api-key": "k"}, "k"),
        ({"authorization": "Bearer k", "x-api-key": "k", "api-key": "k"}, "k"),
        ({}, "missing"),
        ({"authorization": ""}, "missing"),
        ({"authorization": "Bearer"}, "missing"),
        ({"authorization": "Bearer "}, "missing"),
        ({"x-api-key": ""}, "missing"),
        ({"authorization": "Basic dXNlcjpr"}, "malformed"),
        ({"authorization": "k"}, "malformed"),
        ({"authorization": "Bearer\tk"}, "malformed"),
        ({"authorization": "Bearerk"}, "malformed"),
        ({"authorization": "Bearer \xe9"}, "malformed"),
        ({"authorization": "Basic dXNlcjpr", "x-api-key": "k"}, "malformed"),
        ({"authorization": "Bearer k", "x-api-key": "l"}, "ambiguous"),
        ({"authorization": "Bearer k", "x-api-key": ""}, "ambiguous"),
        ({"api-key": "k", "x-api-key": "K"}, "ambiguous"),
    ],
)
def test_headers(headers: dict[str, str], expected: str) -> None:
    """One credential counts, in one of three headers; several must be equal."""
    given = {name.encode(): value.encode("latin-1") for name, value in headers.items()}
    try:
        found = find_credential(given)
    except InvalidCredential as error:
        found = error.reason

    assert found == expected


async def test_accepted() -> None:
    """The identity becomes the caller of the request, with its rights."""
    edge = Edge()

    context: RequestContext = await edge.send(authorization="Bearer good")

    assert (context.principal, context.models) == (PRINCIPAL, frozenset({"m"}))
    assert context.project_models == PROJECT_MODELS
    assert not context.is_admin
    assert context.record.key_id == "key_1"
    assert edge.results == ["accepted"]


async def test_open_paths() -> None:
    """Probes are open, operators' pages by setting; nothing else is, unknown paths included."""
    paths = ["/health/live", "/health/ready", "/health", "/metrics", "/docs", "/openapi.json"]
    paths += [
        "/metrics/vllm",
        "/metrics/vllm/",
        "/docs/assets/swagger-ui.css",
        "/docs/",
        "/docs/assets",
        "/v1/models",
        "/",
        "/nowhere",
    ]
    paths += ["/health/live/", "/Health/live", "//health/live", "/health/live/../../v1/models"]

    async def list_open(**options: bool) -> set[str]:
        edge = Edge(**options)
        return {path for path in paths if isinstance(await edge.send(path), RequestContext)}

    probes, metrics = {"/health/live", "/health/ready"}, {"/health", "/metrics", "/metrics/vllm"}
    docs = {"/docs", "/openapi.json", "/docs/assets/swagger-ui.css"}
    assert await list_open() == probes
    assert await list_open(open_metrics=True) == probes | metrics
    assert await list_open(open_docs=True) == probes | docs


async def test_metrics_key() -> None:
    """The key of the metrics reads all of them, and is an unknown credential elsewhere."""
    edge = Edge(metrics_key="k" * 32)
    paths = ["/metrics", "/metrics/vllm", "/health", "/v1/models", "/admin/engines", "/auth"]
    paths += ["/metrics/", "/docs", "/v1/organization/costs"]
    seen = {path: await edge.send(path, authorization=f"Bearer {'k' * 32}") for path in paths}

    allowed = {path: seen.pop(path) for path in ("/metrics", "/metrics/vllm", "/health")}
    assert {(c.reads_metrics, c.is_admin) for c in allowed.values()} == {(True, False)}
    assert {type(error) for error in seen.values()} <= {InvalidCredential, TooManyFailures}
    assert edge.results[:4] == ["accepted", "accepted", "accepted", "unknown_key"]
    for key in ("k" * 31, "k" * 33, "K" * 32, ""):
        error = await edge.send("/metrics", "10.0.0.9", authorization=f"Bearer {key}")
        assert isinstance(error, (InvalidCredential, TooManyFailures))
    context = await edge.send("/metrics", authorization="Bearer good")
    assert not context.reads_metrics
    edge = Edge(metrics_key="k" * 32, open_metrics=True)
    for key, reads_metrics in {"other": False, "k" * 32: True}.items():
        context = await edge.send("/metrics", authorization=f"Bearer {key}")
        assert context.reads_metrics is reads_metrics


@pytest.mark.parametrize(
    ("path", "is_refused"),
    [
        ("/v1/chat/completions", True),
        ("/chat/completions", True),
        ("/v1/completions", True),
        ("/embeddings", True),
        ("/v1/models", True),
        ("/v1/models/m", True),
        ("/auth", True),
        ("/v1/organization/projects", False),
        ("/organization/models", False),
        ("/admin/engines", False),
        ("/metrics", False),
        ("/", False),
    ],
)
async def test_admin_keys(path: str, is_refused: bool) -> None:
    """A key for the admin API is valid, and gets 403 where models are used or listed."""
    edge = Edge()

    result = await edge.send(path, authorization="Bearer admin")

    assert isinstance(result, NoModelAccess) is is_refused
    if is_refused:
        assert (result.status, result.code) == (403, "insufficient_permissions")
    else:
        assert result.is_admin
    assert edge.results == ["accepted"]


async def test_networks() -> None:
    """A credential with networks is refused from other addresses, as if it were unknown."""
    edge = Edge()

    assert isinstance(await edge.send(x_api_key="office"), RequestContext)
    assert isinstance(await edge.send(x_api_key="office", peer="::ffff:10.0.0.1"), RequestContext)
    refused = await edge.send(x_api_key="office", peer="11.0.0.1")
    unknown = await edge.send(x_api_key="unknown", peer="12.0.0.1")
    assert (refused.message, refused.code) == (unknown.message, unknown.code)
    assert edge.results == ["accepted", "accepted", "wrong_network", "unknown_key"]


async def test_log() -> None:
    """A failure is logged by `auth` with its reason, its address and the id of the request."""
    edge = Edge()
    context = request_context()
    scope = {**http_scope(path="/auth"), "client": ("10.0.0.1", 1), "state": {"context": context}}

    with capture_logs() as lines, pytest.raises(InvalidCredential):
        await edge.authenticate(scope, "/auth", {b"x-api-key": b"bad"})
    assert lines == [
        {
            "event": "authentication failed",
            "log_level": "info",
            "reason": "unknown_key",
            "client": "10.0.0.1",
            "request_id": context.record.request_id,
        }
    ]


async def test_failures() -> None:
    """Too many failures of an address get 429; valid credentials from there are still served."""
    edge = Edge()

    errors = [await edge.send(x_api_key=f"bad{number}") for number in range(4)]
    assert [error.status for error in errors] == [401, 401, 429, 429]
    assert errors[2].headers() == {
        "retry-after": "60",
        "retry-after-ms": "60000",
        "x-should-retry": "false",
    }
    assert isinstance(await edge.send(x_api_key="good"), RequestContext)
    assert (await edge.send(x_api_key="bad", peer="10.0.0.2")).status == 401
    edge.clock.advance(60)
    assert (await edge.send(x_api_key="bad")).status == 401
    assert edge.results == [
        *["unknown_key"] * 2,
        *["limited"] * 2,
        "accepted",
        *["unknown_key"] * 2,
    ]


async def test_other_credentials() -> None:
    """A credential that no verifier accepts is malformed."""
    edge = Edge()

    assert (await edge.send(x_api_key="other")).reason == "malformed"


async def test_unavailable() -> None:
    """A credential that cannot be verified gets 503, and is no failure of its address."""
    edge = Edge()

    assert [(await edge.send(x_api_key="down")).status for _ in range(5)] == [503] * 5
    assert edge.results == ["unavailable"] * 5


async def test_response() -> None:
    """The 401 never depends on the reason, and names the scheme (RFC 9110, section 11.6.1)."""
    edge = Edge()

    first, second = await edge.send(), await edge.send(x_api_key="bad")

    assert first.headers() == second.headers()
    assert first.headers() == {"x-should-retry": "false", "www-authenticate": "Bearer"}
    assert (first.message, first.type, first.code) == (
        "Incorrect API key provided. Send a valid key as `Authorization: Bearer KEY`.",
        "invalid_request_error",
        "invalid_api_key",
    )
    assert second.message == first.message


@pytest.mark.parametrize(
    ("headers", "reads"),
    [
        ([], 0),
        ([(b"content-length", b"0")], 0),
        ([(b"content-length", b"9")], 3),
        ([(b"transfer-encoding", b"chunked")], 3),
    ],
)
async def test_drain(headers: list[tuple[bytes, bytes]], reads: int) -> None:
    """A body is read to its end; a request without one is not waited for."""
    messages = [{"type": "http.request", "body": b"abc", "more_body": True}] * 2
    messages.append({"type": "http.request", "body": b"abc", "more_body": False})
    count = 0

    async def receive() -> dict[str, Any]:
        nonlocal count
        count += 1
        return messages[count - 1]

    await drain_body(http_scope("POST", headers=headers), receive)

    assert count == reads


def test_timing() -> None:
    """Hashes are compared by `hmac.compare_digest`."""
    folder = Path(__file__).parents[3] / "maxgate" / "auth"

    assert "hmac.compare_digest(key.digest, digest)" in (folder / "key_verifier.py").read_text()
