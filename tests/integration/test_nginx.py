"""The gateway behind a real nginx with the configuration of deploy/nginx."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest

from maxgate.app import create_app
from maxgate.settings import Settings
from tests.conftest import ROOT
from tests.fakes.api_keys import KeyFolder, bearer
from tests.fakes.dns_server import serve_dns
from tests.fakes.gateway import SMALL_CARD
from tests.fakes.max_server import FakeMax, Script
from tests.fakes.nginx_attacks import HIDDEN, is_refused, list_attacks, send_attack
from tests.fakes.nginx_server import (
    CONFIGURATION,
    NginxServer,
    check_configuration,
    create_certificate,
    free_ports,
    render,
    start_nginx,
)
from tests.fakes.server import serving
from tests.fakes.waiting import until, until_holds

HELLO = {"messages": [{"role": "user", "content": "Hello"}]}
CHAT = "/v1/chat/completions"
UNLIMITED = {"limit_req zone": "# limit_req zone", "limit_conn client": "# limit_conn client"}
TRUSTED = {"trusted_proxies": ["127.0.0.1"]}


@dataclass(frozen=True)
class Site:
    """nginx, a client for HTTP/2, the engine, and the ends of the replicas by number."""

    nginx: NginxServer
    client: httpx.AsyncClient
    engine: FakeMax
    replicas: list[AsyncExitStack]


@asynccontextmanager
async def behind_nginx(
    engine: FakeMax | None = None,
    *,
    replicas: int = 1,
    options: dict[str, str] | None = None,
    changes: dict[str, str] | None = None,
    request_read_timeout: float = 30,
    **settings: Any,
) -> AsyncIterator[Site]:
    """Run replicas of a gateway with these settings behind nginx."""
    engine = engine or FakeMax()
    async with AsyncExitStack() as stack:
        engine_url = await stack.enter_async_context(serving(engine))
        chosen = {"engines": [engine_url], "cards": [SMALL_CARD], "server": TRUSTED, **settings}
        urls, ends = [], []
        for _ in range(replicas):
            ends.append(await stack.enter_async_context(AsyncExitStack()))
            server = serving(
                create_app(Settings(**chosen)), request_read_timeout=request_read_timeout
            )
            urls.append(await ends[-1].enter_async_context(server))
        nginx = stack.enter_context(start_nginx(urls, options=options, changes=changes))
        client = await stack.enter_async_context(
            httpx.AsyncClient(base_url=nginx.url, verify=nginx.tls, http2=True)
        )
        yield Site(nginx, client, engine, ends)


def read_error(response: httpx.Response) -> tuple[int, str | None]:
    """Return status and code of an error, which must have OpenAI's shape."""
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    return response.status_code, error["code"]


@pytest.mark.parametrize(
    "options", [{}, *({name.stem: ""} for name in CONFIGURATION.glob("options/*.conf"))], ids=str
)
def test_configuration(tmp_path: Path, options: dict[str, str]) -> None:
    """The configuration is valid, alone and with each option."""
    folders = {"auth_request": "server.d", "resolve": "upstream.conf"}
    chosen = {name: folders.get(name, "http.d") for name in options}
    create_certificate(tmp_path)
    render(tmp_path, ["http://127.0.0.1:1"], ports=free_ports(), options=chosen)

    lines = check_configuration(tmp_path).splitlines()

    # `http2 on` is unknown to the nginx of Debian 12.
    warnings = [line for line in lines if "[warn]" in line]
    assert all('"listen ... http2" directive is deprecated' in line for line in warnings)


def test_documented_commands(tmp_path: Path) -> None:
    """The first commands of docs/nginx.md configure nginx, down to its own check."""
    page = (ROOT / "docs" / "nginx.md").read_text()
    [first, *_] = re.findall(r"(?:^    .+\n)+", page, re.MULTILINE)
    shutil.copytree(CONFIGURATION, tmp_path / "deploy" / "nginx")
    [install, *commands] = first.splitlines()
    assert install.strip().startswith("pip install ")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    done = subprocess.run(
        ["/bin/sh", "-euc", "\n".join(commands)],
        cwd=tmp_path,
        env=os.environ | {"PATH": path, "HOME": str(tmp_path)},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    assert "nginx.conf test is successful" in done.stderr


async def test_further_hosts() -> None:
    """Names in tls/hosts.conf are hosts besides those of site.conf."""
    server = {**TRUSTED, "allowed_hosts": ["llm.example.org"]}  # it listens at a loopback address
    async with behind_nginx(server=server) as site:
        headers = {"host": "llm.example.org"}
        assert (await site.client.get("/health/live", headers=headers)).status_code == 421
        hosts = site.nginx.folder / "tls" / "hosts.conf"
        hosts.write_text("server_name llm.example.org [fd00::7];\n")
        site.nginx.reload()

        async def is_served() -> bool:
            # The reload ends connections.
            async with httpx.AsyncClient(base_url=site.nginx.url, verify=site.nginx.tls) as client:
                statuses = [
                    (await client.get("/health/live", headers={"host": host})).status_code
                    for host in ("llm.example.org", "[fd00::7]", "localhost")
                ]
            return statuses == [200, 200, 200]

        await until(is_served)


@pytest.mark.parametrize("http2", [True, False])
async def test_stream(http2: bool) -> None:
    """A stream passes without buffering, and ends at the engine when the client leaves."""
    engine = FakeMax(default=Script(silent_after=3))
    async with behind_nginx(engine) as site:
        async with (
            httpx.AsyncClient(
                base_url=site.nginx.url, verify=site.nginx.tls, http2=http2
            ) as client,
            client.stream("POST", CHAT, json={**HELLO, "stream": True}) as response,
        ):
            assert response.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
            text = ""
            async for line in response.aiter_lines():  # the engine has gone silent by then
                if line.startswith("data: "):
                    text += json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
                if text == "The capital of":
                    break
            assert engine.running == 1
        await asyncio.wait_for(engine.idle.wait(), 5)
        engine.default = Script()
        assert (await site.client.post(CHAT, json=HELLO)).status_code == 200


async def test_requests() -> None:
    """The request id and the address of the client reach the gateway and both logs."""
    async with behind_nginx() as site:
        named = await site.client.get("/v1/models", headers={"x-request-id": "my-id"})
        replaced = await site.client.get(
            "/v1/models?key=sk-secret", headers={"x-request-id": "a b"}
        )
        assert named.headers["x-request-id"] == "my-id"
        assert replaced.headers["x-request-id"] not in {"a b", ""}
        assert named.headers.get_list("server") == ["nginx"]
        first, second = site.nginx.read_log()
        assert (first["request_id"], first["path"], first["status"]) == ("my-id", "/v1/models", 200)
        assert second["request_id"] == replaced.headers["x-request-id"]
        assert (second["path"], first["client"], first["tls"]) == (
            "/v1/models",
            "127.0.0.1",
            "TLSv1.3",
        )
        assert str(first["upstream"]).startswith("127.0.0.1:")
        for name in ("upstream_connect_seconds", "upstream_header_seconds", "upstream_seconds"):
            assert float(str(first[name])) >= 0


async def test_forged_address(tmp_path: Path) -> None:
    """Headers in which clients claim another address are replaced."""
    keys = KeyFolder(tmp_path)
    local, office = keys.add("a", networks=["127.0.0.1"]), keys.add("b", networks=["10.0.0.0/8"])
    forged = [
        {"x-forwarded-for": "10.1.2.3"},
        {"x-forwarded-for": "10.1.2.3, 127.0.0.1"},
        {"forwarded": "for=10.1.2.3"},
        {"x-real-ip": "10.1.2.3"},
        {"x_forwarded_for": "10.1.2.3"},
    ]
    async with behind_nginx(**keys.settings) as site:
        for headers in forged:
            statuses = [
                (
                    await site.client.get("/v1/models", headers={**headers, **bearer(key)})
                ).status_code
                for key in (office, local)
            ]
            assert statuses == [401, 200], headers


async def test_attacks() -> None:
    """Malformed and ambiguous requests are refused in OpenAI's shape, and nothing hides in them."""
    async with behind_nginx(changes=UNLIMITED) as site:
        for attack in list_attacks():
            status, body = await send_attack(site.nginx, attack)
            assert is_refused(attack, status, body), (attack.name, status, body[:300])
        assert (await site.client.post(CHAT, json=HELLO)).status_code == 200
    assert len(site.engine.requests) == 1
    assert HIDDEN.decode() not in str(site.engine.requests)


async def test_errors() -> None:
    """Errors of nginx have OpenAI's shape over HTTP/2, too."""
    async with behind_nginx(
        changes={"client_max_body_size 11m": "client_max_body_size 2k"}
    ) as site:
        client = site.client
        assert read_error(await client.get("/admin/engines")) == (404, "not_found")
        assert read_error(await client.get("/v1/models", headers={"host": "evil.example"})) == (
            421,
            "misdirected_request",
        )
        # The gateway refuses them; nginx ends connections of HTTP/2 above 40 KiB.
        big = {f"x-{number}": "a" * 5000 for number in range(7)}
        assert (await client.get("/v1/models", headers=big)).status_code == 431
        body = {"messages": [{"role": "user", "content": "a" * 3000}]}
        assert read_error(await client.post(CHAT, json=body)) == (413, "request_too_large")
        assert (await client.get("/health/ready")).json() == {"status": "ok"}
        assert (await client.get("/models")).status_code == 200


async def test_plain_http() -> None:
    """Plain http is redirected at its own port for known hosts, and refused at that of TLS."""
    async with behind_nginx() as site, httpx.AsyncClient(verify=site.nginx.tls) as client:
        plain = f"http://localhost:{site.nginx.plain_port}"
        response = await client.get(f"{plain}/v1/models?a=b")
        assert (response.status_code, response.headers["location"]) == (
            308,
            "https://localhost/v1/models?a=b",
        )
        evil = await client.get(f"{plain}/v1/models", headers={"host": "evil.example"})
        assert read_error(evil) == (421, "misdirected_request")
        wrong = await client.get(f"http://localhost:{site.nginx.port}/v1/models")
        assert read_error(wrong) == (400, "https_required")
        health = f"http://127.0.0.1:{site.nginx.plain_port}/health/nginx"
        assert (await client.get(health, headers={"host": "a"})).status_code == 204


async def test_limits() -> None:
    """A client that sends too much gets 429 with Retry-After, by requests and by connections."""
    requests = {"rate=50r/s": "rate=1r/s", "burst=100": "burst=2"}
    async with behind_nginx(changes=requests) as site:
        responses = [await site.client.get("/v1/models") for _ in range(5)]
        assert [r.status_code for r in responses] == [200, 200, 200, 429, 429]
        assert read_error(responses[-1]) == (429, "rate_limit_exceeded")
        assert responses[-1].headers["retry-after"] == "1"
        assert responses[-1].headers["x-should-retry"] == "true"
    engine = FakeMax(default=Script(silent_after=1))
    connections = {"limit_conn client_connections 200": "limit_conn client_connections 1"}
    async with (
        behind_nginx(engine, changes=connections) as site,
        site.client.stream("POST", CHAT, json={**HELLO, "stream": True}),
    ):
        refused = await site.client.get("/v1/models")
        assert read_error(refused) == (429, "rate_limit_exceeded")


async def test_slow_clients() -> None:
    """Slow headers and bodies are cut off while others are served."""
    faster = {**UNLIMITED, "client_header_timeout 10s": "client_header_timeout 1s"}
    async with behind_nginx(changes=faster, request_read_timeout=1) as site:

        async def send_slowly(begin: bytes) -> bytes:
            reader, writer = await site.nginx.connect()
            writer.write(begin)
            reading = asyncio.create_task(reader.read())
            while not reading.done():
                writer.write(b"a")
                await asyncio.wait([reading], timeout=0.1)
            writer.close()
            try:
                return reading.result()
            except ConnectionError:
                return b""

        began = monotonic()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        body = head + b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
        slow = asyncio.gather(*(send_slowly(begin) for begin in (head + b"X-A: ", body) * 20))
        while not slow.done():
            assert (await site.client.post(CHAT, json=HELLO)).status_code == 200
        assert monotonic() - began < 5
        for index, response in enumerate(await slow):
            assert response.startswith(b"HTTP/1.1 408 ") or response == b"", (index, response[:99])


async def test_replicas() -> None:
    """A dead replica costs no request; without any, the response is 502 with Retry-After."""
    async with behind_nginx(replicas=2) as site:
        for _ in range(4):
            await site.client.post(CHAT, json=HELLO)
        assert len({line["upstream"] for line in site.nginx.read_log()}) == 2
        await site.replicas[0].aclose()
        for _ in range(10):
            assert (await site.client.post(CHAT, json=HELLO)).status_code == 200
        await site.replicas[1].aclose()
        response = await site.client.post(CHAT, json=HELLO)
        assert read_error(response) == (502, "upstream_unavailable")
        assert (response.headers["retry-after"], response.headers["x-should-retry"]) == (
            "2",
            "true",
        )


async def test_resolved_replicas() -> None:
    """With options/resolve.conf, replicas that appear and vanish in DNS are found while it runs."""

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        address = writer.get_extra_info("sockname")[0].encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n" % len(address))
        writer.write(b"Connection: close\r\n\r\n" + address)
        writer.close()

    async with serve_dns("127.0.0.2") as dns, AsyncExitStack() as stack:
        hosts = ["127.0.0.2", "127.0.0.3"]
        server = await asyncio.start_server(respond, hosts, free_ports()[0])
        await stack.enter_async_context(server)
        port = server.sockets[0].getsockname()[1]
        changes = {"resolver 127.0.0.11": f"resolver 127.0.0.1:{dns.port}", "valid=5s": "valid=1s"}
        nginx = stack.enter_context(
            start_nginx(
                [f"http://gateway:{port}"],
                options={"resolve": "upstream.conf"},
                changes={**UNLIMITED, **changes},
            )
        )
        client = await stack.enter_async_context(
            httpx.AsyncClient(base_url=nginx.url, verify=nginx.tls)
        )

        async def finds(*expected: str) -> bool:
            return {(await client.get("/v1/models")).text for _ in range(4)} == set(expected)

        await until(lambda: finds("127.0.0.2"))
        dns.addresses = hosts
        await until(lambda: finds(*hosts))
        dns.addresses = hosts[1:]
        await until(lambda: finds("127.0.0.3"))


async def test_reload() -> None:
    """A reload under load fails no request and cuts no stream."""
    async with (
        behind_nginx(options={"keepalive": "http.d"}, changes=UNLIMITED) as site,
        # With HTTP/2, httpx gives streams up when the server announces the end of a connection.
        httpx.AsyncClient(base_url=site.nginx.url, verify=site.nginx.tls) as client,
    ):
        statuses: list[int] = []
        is_over = False

        async def send() -> None:
            while not is_over:
                response = await client.post(CHAT, json={**HELLO, "stream": True})
                assert response.text.endswith("data: [DONE]\n\n")
                statuses.append(response.status_code)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(4):
                tasks.create_task(send())
            for _ in range(3):
                count = len(statuses)
                site.nginx.reload()
                await until_holds(lambda count=count: len(statuses) > count + 50, within=20)
            is_over = True
    assert set(statuses) == {200}


async def test_auth_request(tmp_path: Path) -> None:
    """With auth_request, nginx refuses requests without a valid key before it reads the body."""
    keys = KeyFolder(tmp_path)
    key, settings = bearer(keys.add()), keys.settings
    settings["auth"]["max_failures"] = 3
    options = {"auth_request": "server.d"}
    async with behind_nginx(
        options=options, server={**TRUSTED, "cors_origins": ["https://a.example"]}, **settings
    ) as site:
        client = site.client
        assert (await client.post(CHAT, json=HELLO, headers=key)).status_code == 200
        preflight = {"origin": "https://a.example", "access-control-request-method": "POST"}
        assert (await client.options(CHAT, headers=preflight)).status_code == 200
        assert (await client.get("/health/live")).status_code == 200
        for _ in range(3):
            refused = await client.post(CHAT, json=HELLO)
            assert read_error(refused) == (401, "invalid_api_key")
            assert refused.headers["www-authenticate"] == "Bearer"
        limited = await client.post(CHAT, json=HELLO)
        assert read_error(limited) == (429, "rate_limit_exceeded")
        assert int(limited.headers["retry-after"]) > 0
        reader, writer = await site.nginx.connect()
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
        )
        assert b" 429 " in await reader.readline()  # without a body
        writer.close()
        await site.replicas[0].aclose()
        unavailable = await client.post(CHAT, json=HELLO, headers=key)
        assert read_error(unavailable) == (503, "authentication_unavailable")
    assert len(site.engine.requests) == 1
