"""Keys with real processes: revocation reaches every worker, and no output shows a key."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.conftest import ROOT
from tests.fakes.api_keys import PEPPER, KeyFolder, bearer
from tests.fakes.gateway import SMALL_CARD, TLS
from tests.fakes.max_server import FakeMax, Script
from tests.fakes.processes import ServerProcess, api_server, free_port, plain_uvicorn, run_to_end
from tests.fakes.server import serving
from tests.fakes.waiting import until

BODY = {"messages": [{"role": "user", "content": "Hello"}]}
# Enough connections that every one of two workers accepts some.
CONNECTIONS = 40
BOUND = 60  # seconds, documented as 5


@pytest.fixture
def keys(tmp_path: Path) -> KeyFolder:
    """A folder without keys."""
    return KeyFolder(tmp_path)


def variables(keys: KeyFolder, engine: str = "http://127.0.0.1:9") -> dict[str, str]:
    """Return the environment of a gateway with these keys."""
    return {
        "MAXGATE_AUTH__MODE": "keys",
        "MAXGATE_AUTH__KEYS_FILE": str(keys.file),
        "MAXGATE_AUTH__PEPPER": PEPPER,
        "MAXGATE_DATABASE__URL": "none",
        "MAXGATE_ENGINES": engine,
        "MAXGATE_CARDS": str(SMALL_CARD),
    }


@asynccontextmanager
async def two_workers(keys: KeyFolder) -> AsyncIterator[ServerProcess]:
    """A gateway with two workers that serve."""
    environment = {**variables(keys), "MAXGATE_AUTH__OPEN_METRICS": "true"}
    async with api_server("--workers", "2", **environment) as server:

        async def has_both() -> bool:
            async with httpx.AsyncClient(base_url=server.url, verify=TLS) as client:
                return bool((await client.get("/metrics")).json()["workers"] == 2)

        await until(has_both, within=30)
        yield server


async def collect(server: ServerProcess, key: str) -> set[int]:
    """Return the statuses of requests on connections that all workers accept."""
    found = set()
    for _ in range(CONNECTIONS):
        async with httpx.AsyncClient(base_url=server.url, verify=TLS) as client:
            found.add((await client.get("/v1/models", headers=bearer(key))).status_code)
    return found


async def test_reload(keys: KeyFolder) -> None:
    """After a reload, all workers know the new keys; an invalid file is refused as a whole."""
    admin, old = keys.add("admin", admin=True), keys.add("old")
    async with two_workers(keys) as server:
        keys.disable("old")
        new = keys.add("new")
        async with httpx.AsyncClient(
            base_url=server.url, headers=bearer(admin), verify=TLS
        ) as client:
            response = await client.post("/admin/reload", timeout=30)
            assert response.status_code == 200, response.text
            assert await collect(server, old) <= {401, 429}
            assert await collect(server, new) == {200}

            valid = keys.file.read_text()
            keys.file.write_text(valid.replace("id: new", "id: new\n    modelz: [a]"))
            refused = await client.post("/admin/reload", timeout=30)
        error = refused.json()["error"]
        assert (refused.status_code, error["code"]) == (400, "invalid_configuration")
        assert "modelz (key 'new'): unknown field; did you mean models?" in error["message"]
        assert await collect(server, new) == {200}

        keys.file.write_text(valid)
        keys.disable("new")
        server.process.send_signal(signal.SIGHUP)

        async def is_revoked() -> bool:
            return await collect(server, new) <= {401, 429}

        await until(is_revoked, within=20)


async def test_one_process(keys: KeyFolder) -> None:
    """Under plain uvicorn, a reload takes over the keys, too."""
    admin, old = keys.add("admin", admin=True), keys.add("old")
    async with plain_uvicorn(**variables(keys)) as server:
        keys.disable("old")
        async with httpx.AsyncClient(
            base_url=server.url, headers=bearer(admin), verify=TLS
        ) as client:
            assert (await client.post("/admin/reload", timeout=30)).status_code == 200
            assert (await client.get("/v1/models", headers=bearer(old))).status_code == 401


async def test_edited_file(keys: KeyFolder) -> None:
    """A revoked key is refused by all workers within the bound, without a reload."""
    key = keys.add()
    async with two_workers(keys) as server:
        assert await collect(server, key) == {200}
        keys.disable()

        async def is_revoked() -> bool:
            return await collect(server, key) <= {401, 429}

        await until(is_revoked, within=BOUND)


async def test_commands(keys: KeyFolder) -> None:
    """Commands for a running gateway send the key of an admin from the environment."""
    admin, key = keys.add("admin", admin=True), keys.add("key")
    async with api_server(**variables(keys)) as server:
        command = ("-m", "maxgate", "engines", "list", "--url", server.url)
        assert await run_to_end(*command, OPENAI_ADMIN_KEY=admin) == (0, "")
        code, error = await run_to_end(*command, OPENAI_ADMIN_KEY=key)
        assert (code, "needs the key of an admin" in error) == (1, True)
        code, error = await run_to_end(*command)
        assert (code, "needs a key of an admin in the variable OPENAI_ADMIN_KEY" in error) == (
            1,
            True,
        )


async def send_everything(server: ServerProcess, key: str, engine: FakeMax) -> str:
    """Send requests of every outcome with a key; return the text of all responses."""
    texts = []
    chat = "/v1/chat/completions"
    engine.scripts = [Script(status=500), Script(status=400), Script(cut_after=2), Script()]
    async with httpx.AsyncClient(base_url=server.url, headers=bearer(key), verify=TLS) as client:
        for method, path, options in (
            *[("POST", chat, {"json": BODY})] * 2,
            ("POST", chat, {"json": {**BODY, "stream": True}}),
            ("POST", chat, {"json": BODY}),
            ("POST", chat, {"content": b"{"}),
            ("POST", chat, {"json": {**BODY, "user": 1}}),
            ("POST", chat, {"json": BODY, "headers": {"x-request-timeout": key}}),
            ("POST", chat, {"json": BODY, "headers": {"x-request-timeout": "0.000001"}}),
            ("GET", "/v1/models", {"headers": {"x-request-id": "own"}}),
            ("GET", "/v1/models", {"params": {"api_key": key}}),
            ("GET", "/admin/engines", {}),
            ("GET", "/nowhere", {}),
            ("GET", "/health", {}),
            ("GET", "/metrics", {}),
            ("GET", "/metrics", {"headers": {"accept": "text/plain"}}),
        ):
            response = await client.request(method, path, **options)  # type: ignore[arg-type]
            if "x-request-timeout" not in response.request.headers:
                texts.append(f"{response.text} {response.headers}")
        wrong = bearer(key[:-1])
        texts += [(await client.get("/v1/models", headers=wrong)).text for _ in range(40)]
    return "".join(texts)


async def test_canary(keys: KeyFolder) -> None:
    """No log line, error, metric or process list has a key, its beginning or the pepper."""
    key, admin = keys.add("key"), keys.add("admin", admin=True)
    engine = FakeMax()
    async with serving(engine) as engine_url:
        environment = {**variables(keys, engine_url), "MAXGATE_TELEMETRY__LOG_LEVEL": "debug"}
        async with api_server(**environment) as server:
            texts = await send_everything(server, key, engine)
            async with httpx.AsyncClient(
                base_url=server.url, headers=bearer(admin), verify=TLS
            ) as client:
                texts += (await client.post("/admin/reload", timeout=30)).text
            process = psutil.Process(server.process.pid)
            processes = [process, *process.children(recursive=True)]
            arguments = " ".join(argument for one in processes for argument in one.cmdline())
            server.process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(server.process.wait(), 30)
            log = "".join(server.lines)
            durable = "".join(
                file.read_text(errors="replace")
                for file in [*server.state_dir.rglob("*"), keys.file]
                if file.is_file()
            )
    assert '"key_id":"key"' in log
    assert "gateway is ready" in log
    assert '"reason":"malformed"' in log
    for secret in (key, key[:-1], key[6:20], admin, PEPPER):
        for text in (texts, log, arguments, durable):
            assert secret not in text
    for line in server.lines:
        json.loads(line)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("keys: 3", "keys: Input should be a valid list"),
        (None, "does not exist; `maxgate keys create --file` writes it"),
    ],
)
async def test_invalid_start(keys: KeyFolder, content: str | None, message: str) -> None:
    """With an invalid key file, neither server starts: exit code 2 and one line."""
    if content is not None:
        keys.file.write_text(content)
    for command in (
        ("api_server.py", "--port", str(free_port())),
        ("-m", "uvicorn", "api_server:app", "--port", str(free_port())),
    ):
        code, error = await run_to_end(*command, **variables(keys))
        lines = [line for line in error.splitlines() if "running as root" not in line]
        assert (code, len(lines)) == (2, 1), error
        assert message in lines[0]


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
async def test_exposed_start(host: str) -> None:
    """Without `auth.mode`, the gateway does not start on an address that others can reach."""
    if host == "::" and not socket.has_ipv6:
        pytest.skip("no IPv6")
    code, error = await run_to_end("api_server.py", "--host", host, "--port", str(free_port()))

    assert code == 2
    assert error.startswith(
        f"maxgate: server.host: other machines may reach {host}, and authentication is not set up; "
        "set auth.mode (MAXGATE_AUTH__MODE) to keys, or to none"
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "localhost"])
async def test_other_starts(host: str) -> None:
    """With `none`, it starts on every address; a name of this machine needs no setting."""
    environment = {"MAXGATE_AUTH__MODE": "none"} if host == "0.0.0.0" else {}
    async with (
        api_server("--host", host, **environment) as server,
        httpx.AsyncClient(base_url=server.url, verify=TLS) as client,
    ):
        assert (await client.get("/v1/models")).status_code == 200


def find_own_address() -> str | None:
    """Return an address of this machine that is not loopback, if there is one."""
    for addresses in psutil.net_if_addrs().values():
        for address in addresses:
            if address.family == socket.AF_INET and not address.address.startswith("127."):
                return address.address
    return None


@pytest.mark.parametrize("mode", ["", "none"])
async def test_plain_uvicorn(mode: str) -> None:
    """Under uvicorn, requests at another address than loopback get 503 until `auth.mode` is set."""
    own = find_own_address()
    if own is None:
        pytest.skip("this machine has loopback addresses only")
    async with plain_uvicorn("--host", "0.0.0.0", MAXGATE_AUTH__MODE=mode) as server:
        outside = f"http://{own}:{server.port}"
        async with httpx.AsyncClient(trust_env=False, verify=TLS) as client:
            response = await client.get(f"{outside}/v1/models")
            assert (await client.get(f"{outside}/health/live")).status_code == 200
            assert (await client.get(f"{server.url}/v1/models")).status_code == 200
    if mode:
        assert response.status_code == 200
    else:
        error: Any = response.json()["error"]
        assert (response.status_code, error["code"]) == (503, "authentication_not_configured")
        assert response.headers["x-should-retry"] == "false"


async def test_concurrent_creates(tmp_path: Path) -> None:
    """Keys that are created at the same time are all in the file, by one pepper."""
    environment = {**os.environ, "MAXGATE_STATE_DIR": str(tmp_path)}
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "maxgate", "keys", "create"),
            cwd=ROOT,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        for _ in range(4)
    ]
    outputs = [(await process.communicate())[0].decode().strip() for process in processes]
    environment = {"MAXGATE_AUTH__MODE": "keys", "MAXGATE_STATE_DIR": str(tmp_path)}
    async with api_server(**environment) as server:
        for key in outputs:
            async with httpx.AsyncClient(base_url=server.url, verify=TLS) as client:
                response = await client.get("/v1/models", headers=bearer(key))
                assert response.status_code == 200
