"""The admin API over HTTP: attackers get 403 in OpenAI's shape, whatever they send."""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from maxgate.app import create_app
from maxgate.settings import Settings
from tests.conftest import ROOT
from tests.fakes.gateway import Gateway, StartGateway
from tests.fakes.waiting import until

METHODS = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"]
PATHS = [
    "/admin/engines",
    "/admin/engines/abc",
    "/admin/reload",
    "/admin",
    "/admin/nowhere",
    "/running",
    "/api/models/unload",
    "/api/models/unload/smollm2",
]
PAGE = "https://chat.example.org"
PREFLIGHT = {"origin": PAGE, "access-control-request-method": "POST"}
ATTACKS = [
    {"host": "attacker.example"},
    {"host": "gateway.localhost"},
    {"origin": PAGE},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:8000"},
    {"x-forwarded-for": "127.0.0.1"},
    {"forwarded": "for=127.0.0.1"},
    {"x-real-ip": "127.0.0.1"},
    {"via": "1.1 proxy"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    PREFLIGHT,
]


@asynccontextmanager
async def connected(app: Any, peer: str, root_path: str = "") -> AsyncIterator[httpx.AsyncClient]:
    """A client with this address, without a server in between."""
    transport = httpx.ASGITransport(app, client=(peer, 4000), root_path=root_path)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
        yield client


def assert_refused(response: httpx.Response) -> None:
    """Check that this is a 403 that allows no page anything."""
    assert response.status_code == 403
    assert "access-control-allow-origin" not in response.headers
    if response.request.method != "HEAD":
        error = response.json()["error"]
        shape = (error["type"], error["param"], error["code"])
        assert shape == ("invalid_request_error", None, "forbidden")


@pytest.mark.parametrize("headers", ATTACKS)
@pytest.mark.parametrize("origins", [[], [PAGE, "http://127.0.0.1:8000"], ["*"]])
async def test_attacks(
    start_gateway: StartGateway, headers: Mapping[str, str], origins: list[str]
) -> None:
    """Pages and proxies are refused with every method, also where CORS lets pages in."""
    async with start_gateway(server={"cors_origins": origins}) as gateway:
        for path in PATHS:
            for method in METHODS:
                response = await gateway.client.request(method, path, headers=headers)
                assert_refused(response)


@pytest.mark.parametrize("peer", ["10.0.0.5", "::ffff:10.0.0.5", "2001:db8::1"])
async def test_other_machine(peer: str) -> None:
    """Clients on other machines are refused, whatever Host they name."""
    async with connected(create_app(Settings()), peer) as client:
        for method in METHODS:
            assert_refused(await client.request(method, "/admin/engines"))


async def test_unknown_path(gateway: Gateway) -> None:
    """A local client gets the usual error for a path that does not exist."""
    assert (await gateway.client.get("/admin/nowhere")).status_code == 404


@pytest.mark.parametrize("mounted", [True, False])
async def test_prefix(mounted: bool) -> None:
    """A prefix, by `root_path` or by mounting the application, opens nothing."""
    app: Any = create_app(Settings(server={"cors_origins": ["*"]}))  # type: ignore[arg-type]
    root_path = "" if mounted else "/gateway"
    if mounted:
        outer = FastAPI()
        outer.mount("/gateway", app)
        app = outer
    async with connected(app, "10.0.0.5", root_path) as client:
        assert_refused(await client.get("/gateway/admin/engines"))
    async with connected(app, "127.0.0.1", root_path) as client:
        for headers in ATTACKS:
            response = await client.post("/gateway/admin/engines", headers=headers, json={})
            assert_refused(response)
        assert (await client.get("/gateway/admin/nowhere")).status_code == 404


@pytest.mark.parametrize("root_path", ["/", "/a", "/adm", "/gateway"])
async def test_prefix_outside_of_path(root_path: str) -> None:
    """A server that leaves `root_path` out of the path opens nothing, whatever the prefix."""
    async with connected(create_app(Settings()), "10.0.0.5", root_path) as client:
        for path in PATHS:
            assert_refused(await client.get(path))


async def test_middleware_of_users() -> None:
    """Middleware that an embedding program adds does not answer preflights of the admin API."""
    app = create_app(Settings())
    app.add_middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"])
    async with connected(app, "127.0.0.1") as client:
        assert_refused(await client.options("/admin/engines", headers=PREFLIGHT))


async def test_unix_socket(tmp_path: Path) -> None:
    """Clients of a Unix socket are refused, because a proxy may listen for them."""
    path = str(tmp_path / "gateway.sock")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "uvicorn", "api_server:app", "--uds", path),
        cwd=ROOT,
        stderr=asyncio.subprocess.DEVNULL,
    )
    transport = httpx.AsyncHTTPTransport(uds=path)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:

        async def is_up() -> bool:
            with suppress(httpx.HTTPError):
                return (await client.get("/health/live")).status_code == 200
            return False

        await until(is_up, within=20)
        assert_refused(await client.get("/admin/engines"))
    process.terminate()
    await process.wait()
