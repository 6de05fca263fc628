"""Addresses of clients behind proxies, limits and page headers, in real server processes."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from tests.fakes.api_keys import PEPPER, KeyFolder, bearer
from tests.fakes.gateway import SMALL_CARD, TLS, StartGateway
from tests.fakes.max_server import FakeMax
from tests.fakes.processes import api_server, plain_uvicorn
from tests.fakes.server import serving

FAR = {"x-forwarded-for": "8.8.8.8"}
HTTPS = {"x-forwarded-proto": "https"}
NEAR = {"x-forwarded-for": "10.1.2.3"}


def build_environment(keys: KeyFolder, engine: str, **variables: str) -> dict[str, str]:
    """Build the variables of a gateway with keys."""
    return {
        "MAXGATE_ENGINES": engine,
        "MAXGATE_CARDS": str(SMALL_CARD),
        "MAXGATE_AUTH__MODE": "keys",
        "MAXGATE_AUTH__KEYS_FILE": str(keys.file),
        "MAXGATE_AUTH__PEPPER": PEPPER,
        "MAXGATE_DATABASE__URL": "none",
        **variables,
    }


async def list_models(url: str, *requests: dict[str, str]) -> list[int]:
    """Return the statuses of requests with these headers."""
    async with httpx.AsyncClient(base_url=url, verify=TLS) as client:
        return [
            (await client.get("/v1/models", headers=headers)).status_code for headers in requests
        ]


@pytest.mark.parametrize(
    ("proxies", "statuses"),
    [("127.0.0.0/8", [401, 401, 200, 401]), ("192.0.2.1", [401, 401, 401, 401])],
)
async def test_networks(tmp_path: Path, proxies: str, statuses: list[int]) -> None:
    """The networks of a key are compared with the address that a trusted proxy names."""
    keys = KeyFolder(tmp_path)
    key = bearer(keys.add(networks=["10.0.0.0/8"]))
    async with serving(FakeMax()) as engine:
        environment = build_environment(keys, engine, MAXGATE_SERVER__TRUSTED_PROXIES=proxies)
        async with api_server(**environment) as server:
            spoofed = {**key, "x-forwarded-for": "10.1.2.3, 8.8.8.8"}
            sent = (key, {**key, **FAR}, {**key, **NEAR}, spoofed)
            assert await list_models(server.url, *sent) == statuses


@pytest.mark.parametrize(
    ("proxies", "statuses", "clients"),
    [
        (["127.0.0.1"], [401, 401, 429, 429, 401, 200], ["8.8.8.8", "8.8.8.8", "8.8.4.4"]),
        ([], [401, 401, 429, 429, 429, 200], ["127.0.0.1", "127.0.0.1"]),
    ],
    ids=["trusted", "untrusted"],
)
async def test_failures(
    start_gateway: StartGateway,
    tmp_path: Path,
    proxies: list[str],
    statuses: list[int],
    clients: list[str],
) -> None:
    """Failures count and are logged per client of a trusted proxy; nobody else evades the limit."""
    keys = KeyFolder(tmp_path)
    key = bearer(keys.add())
    settings = {**keys.settings, "server": {"trusted_proxies": proxies}}
    settings["auth"] = {**settings["auth"], "max_failures": 2}
    evading = {"x-forwarded-for": "1.1.1.1, 8.8.8.8"}
    other = {"x-forwarded-for": "8.8.4.4"}
    async with start_gateway(**settings) as gateway:
        with capture_logs() as lines:
            sent = (FAR, FAR, FAR, evading, other, {**key, **FAR})
            assert await list_models(gateway.url, *sent) == statuses
    failures = [line for line in lines if line["event"] == "authentication failed"]
    assert [line["client"] for line in failures] == clients


async def test_plain_uvicorn(tmp_path: Path) -> None:
    """Uvicorn trusts proxies on this machine by itself, but networks of keys do not rely on it."""
    keys = KeyFolder(tmp_path)
    key, local = bearer(keys.add("a", networks=["10.0.0.0/8"])), bearer(keys.add("b"))
    async with serving(FakeMax()) as engine:
        trusted = {"MAXGATE_SERVER__TRUSTED_PROXIES": "127.0.0.1"}
        async with plain_uvicorn(**build_environment(keys, engine)) as server:
            assert await list_models(server.url, {**key, **NEAR}, {**local, **NEAR}) == [401, 200]
        environment = build_environment(keys, engine, **trusted)
        async with plain_uvicorn("--no-proxy-headers", **environment) as server:
            sent = ({**key, **NEAR}, {**key, **FAR}, key)
            assert await list_models(server.url, *sent) == [200, 401, 401]


async def test_limits_under_uvicorn(tmp_path: Path) -> None:
    """Bodies and headers have their limits, and bodies are not read without a key."""
    keys = KeyFolder(tmp_path)
    key = bearer(keys.add())
    async with serving(FakeMax()) as engine:
        environment = build_environment(keys, engine, MAXGATE_SERVER__MAX_BODY_BYTES="2000")
        async with (
            plain_uvicorn(**environment) as server,
            httpx.AsyncClient(base_url=server.url, verify=TLS) as client,
        ):

            async def post(headers: dict[str, str], content: Any) -> tuple[int, str | None]:
                json_headers = {**headers, "content-type": "application/json"}
                path = "/v1/chat/completions"
                response = await client.post(path, headers=json_headers, content=content)
                return response.status_code, response.json()["error"]["code"]

            async def generate() -> Any:
                for _ in range(100):
                    yield b" " * 1000

            assert await post(key, b" " * 2001) == (413, "request_too_large")
            assert await post(key, generate()) == (413, "request_too_large")
            assert await post({}, b" " * 2001) == (401, "invalid_api_key")
            assert await post({}, generate()) == (401, "invalid_api_key")
            assert (await post({**key, "x-a": "a" * 33_000}, b"{}"))[0] == 431
            many = {f"x-{number}": "a" * 100 for number in range(400)}
            assert (await post({**key, **many}, b"{}"))[0] == 431


@pytest.mark.parametrize(
    ("proxies", "headers", "is_https"),
    [([], HTTPS, False), (["127.0.0.1"], HTTPS, True), (["127.0.0.1"], {}, False)],
)
async def test_pages(
    start_gateway: StartGateway, proxies: list[str], headers: dict[str, str], *, is_https: bool
) -> None:
    """Pages may not be framed or load anything from elsewhere; https is kept."""
    async with start_gateway(server={"trusted_proxies": proxies}) as gateway:
        for path in ("/docs", "/docs/assets/swagger-ui.css"):
            page = await gateway.client.get(path, headers=headers)
            assert page.status_code == 200
            assert page.headers["x-content-type-options"] == "nosniff"
            assert page.headers["x-frame-options"] == "DENY"
            assert page.headers["referrer-policy"] == "no-referrer"
            assert ("strict-transport-security" in page.headers) is is_https
        policy = (await gateway.client.get("/docs")).headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self' 'sha256-" in policy
        assert "frame-ancestors 'none'" in policy


async def test_admin_behind_proxy(start_gateway: StartGateway) -> None:
    """A trusted proxy is no way to the admin API either."""
    async with start_gateway(server={"trusted_proxies": ["127.0.0.1"]}) as gateway:
        for headers in ({"x-forwarded-for": "127.0.0.1"}, {"forwarded": "for=127.0.0.1"}):
            response = await gateway.client.get("/admin/engines", headers=headers)
            assert (response.status_code, json.loads(response.text)["error"]["code"]) == (
                403,
                "forbidden",
            )
