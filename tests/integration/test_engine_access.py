"""Engines that need credentials, or that are behind TLS with a private CA."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from maxgate.cli.engine import inspect_engines
from maxgate.settings import Settings
from tests.fakes.gateway import StartGateway
from tests.fakes.max_server import FakeMax
from tests.fakes.server import serving

TLS = Path(__file__).parents[1] / "data" / "tls"


class ProtectedEngine:
    """A FakeMax that requires the credentials `user:pa55w0rd`."""

    def __init__(self) -> None:
        self._engine = FakeMax()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            authorization = dict(scope["headers"]).get(b"authorization")
            if authorization != b"Basic dXNlcjpwYTU1dzByZA==":
                await send({"type": "http.response.start", "status": 401})
                await send({"type": "http.response.body"})
                return
        await self._engine(scope, receive, send)


async def test_credentials(start_gateway: StartGateway, capsys: pytest.CaptureFixture[str]) -> None:
    """Credentials in an engine URL are used, and appear nowhere else."""
    async with serving(ProtectedEngine()) as url:
        target = url.replace("//", "//user:pa55w0rd@") + "/v1"
        async with start_gateway(engines=[target]) as gateway:
            response = await gateway.chat()
            pages = [
                (await gateway.client.get(path, headers=headers)).text
                for path in ("/health", "/metrics")
                for headers in ({}, {"accept": "text/plain"})
            ]
        [report] = await inspect_engines(Settings(engines=[target]), [])
    assert (response.status_code, report.url, report.state) == (200, url, "healthy")
    shown = "".join([*pages, repr(Settings(engines=[target])), *capsys.readouterr()])
    assert (url in shown, "pa55w0rd" in shown, "user:" in shown) == (True, False, False)


async def test_private_ca(start_gateway: StartGateway) -> None:
    """An engine behind TLS is trusted with its CA file, and named as untrusted without."""
    files = {"ssl_keyfile": str(TLS / "key.pem"), "ssl_certfile": str(TLS / "ca.pem")}
    async with serving(FakeMax(), **files) as plain:
        url = plain.replace("http://", "https://")
        async with start_gateway(engines=[{"url": url, "ca_file": TLS / "ca.pem"}]) as gateway:
            assert (await gateway.chat()).status_code == 200
        async with start_gateway(engines=[url]) as gateway:
            health: httpx.Response = await gateway.client.get("/health")
    assert health.json()["engines"][0]["error"].startswith("TLS certificate not trusted: ")
