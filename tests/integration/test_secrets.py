"""The gateway shows its own secrets nowhere, whatever fails."""

import asyncio
import re
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import httpx
import psutil
import pytest

from maxgate.auth.api_key import generate_key
from maxgate.settings import Settings
from tests.fakes.api_keys import KeyFolder, bearer
from tests.fakes.gateway import SMALL_CARD, TLS
from tests.fakes.max_server import FakeMax
from tests.fakes.processes import ServerProcess, api_server, free_port, run_to_end
from tests.fakes.server import serving

PEPPER: Final = "fe3dc0de" * 8
DATABASE_PASSWORD: Final = "pa55-of-database"
REDIS_PASSWORD: Final = "pa55-of-redis"
SECRETS: Final = (PEPPER, DATABASE_PASSWORD, REDIS_PASSWORD)
# Nothing listens there, so that each use is an error with its address.
DATABASE_URL: Final = f"postgresql://maxgate:{DATABASE_PASSWORD}@127.0.0.1:1/maxgate"
REDIS_URL: Final = f"redis://:{REDIS_PASSWORD}@127.0.0.1:1"
VALUES: Final = {
    "MAXGATE_AUTH__PEPPER": PEPPER,
    "MAXGATE_DATABASE__URL": DATABASE_URL,
    "MAXGATE_REDIS__URL": REDIS_URL,
}


def write_files(folder: Path) -> dict[str, str]:
    """Write the secrets to files, and return the variables that name them."""
    variables = {}
    for name, value in VALUES.items():
        path = folder / name.lower()
        path.write_text(f"{value}\n")
        variables[f"{name}_FILE"] = str(path)
    return variables


def list_arguments(server: ServerProcess) -> list[str]:
    """List the arguments of the process and of all below it, as `ps` shows them."""
    parent = psutil.Process(server.process.pid)
    processes = [parent, *parent.children(recursive=True)]
    return [argument for process in processes for argument in process.cmdline()]


def find_secrets(text: str) -> list[str]:
    """Return the secrets in a text."""
    return [secret for secret in SECRETS if secret in text]


@pytest.mark.parametrize("source", ["variables", "files"])
async def test_running(source: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """No log line, response, page or process argument has one while both stores are down."""
    keys = KeyFolder(tmp_path)
    known = keys.add(pepper=PEPPER)
    environment = VALUES if source == "variables" else write_files(tmp_path)
    async with (
        serving(FakeMax()) as engine,
        api_server(
            *("--workers", "2", "--engine-url", engine, "--card", str(SMALL_CARD)),
            MAXGATE_AUTH__MODE="keys",
            MAXGATE_AUTH__KEYS_FILE=str(keys.file),
            MAXGATE_TELEMETRY__LOG_LEVEL="debug",
            **environment,
        ) as server,
    ):
        arguments = list_arguments(server)
        async with httpx.AsyncClient(base_url=server.url, verify=TLS) as client:
            unknown = await client.get("/v1/models", headers=bearer(generate_key()))
            paths = ("/health", "/metrics", "/openapi.json", "/v1/models", "/admin/engines")
            pages = [await client.get(path, headers=bearer(known)) for path in paths]
        server.process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(server.process.wait(), 30)
    assert unknown.status_code == 503
    assert [page.status_code for page in pages] == [200, 200, 200, 200, 403]
    log = "".join(server.lines)
    assert "the database is unavailable" in log
    assert re.search("Redis is unavailable", log, re.IGNORECASE)
    assert len(arguments) > 2
    shown = [*arguments, log, *capfd.readouterr()]
    shown += [f"{response.headers}{response.text}" for response in (unknown, *pages)]
    assert find_secrets("\n".join(shown)) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"MAXGATE_AUTH__PEPPER": f"{PEPPER},{PEPPER[:31]}"},
        {"MAXGATE_DATABASE__URL": DATABASE_URL.replace(":1/", ":port/")},
        {"MAXGATE_REDIS__URL": f"{REDIS_URL}?a=b"},
        {"MAXGATE_REDIS__URL_FILE": "/nowhere"},
        {"MAXGATE_AUTH__MODE": "none"},
    ],
    ids=["pepper", "database", "redis", "both", "unused"],
)
async def test_refused_start(changes: Mapping[str, str]) -> None:
    """No error of a wrong setting has one."""
    variables = {**VALUES, "MAXGATE_AUTH__MODE": "keys", **changes}
    code, error = await run_to_end("api_server.py", "--port", str(free_port()), **variables)
    assert (code, find_secrets(error), PEPPER[:31] in error) == (2, [], False)
    assert "setting " in error or "both " in error


def test_representation() -> None:
    """The representation of the settings has none."""
    settings = Settings.model_validate(
        {
            "auth": {"mode": "keys", "pepper": [PEPPER]},
            "database": {"url": DATABASE_URL},
            "redis": {"url": REDIS_URL},
        }
    )
    sections = (settings, settings.auth, settings.database, settings.redis)
    assert find_secrets("".join(f"{section!r}{section}" for section in sections)) == []
