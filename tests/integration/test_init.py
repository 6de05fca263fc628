"""`maxgate init` leads to a gateway that serves its first key, by the commands that it prints."""

import asyncio
import os
import re
import signal
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import yaml

from maxgate.auth.api_key import is_well_formed
from maxgate.settings_names import LOCATIONS
from tests.conftest import ROOT
from tests.fakes.gateway import TLS
from tests.fakes.max_server import FakeMax
from tests.fakes.postgres_server import PostgresServer
from tests.fakes.processes import free_port
from tests.fakes.server import serving
from tests.fakes.waiting import until


class Shell:
    """Runs commands in a folder, as a user does."""

    def __init__(self, folder: Path, **variables: str) -> None:
        inherited = {name: value for name, value in os.environ.items() if name not in LOCATIONS}
        self.folder = folder
        self.environment: Mapping[str, str] = {
            **inherited,
            "MAXGATE_STATE_DIR": str(folder / "state"),
            "PYTHONPATH": str(ROOT),
            "PYTHON": sys.executable,
            **variables,
        }

    async def start(self, command: str) -> asyncio.subprocess.Process:
        """Start a command; `maxgate` is that of this checkout."""
        line = re.sub(r"^maxgate ", 'exec "$PYTHON" -m maxgate ', command)
        return await asyncio.create_subprocess_shell(
            line,
            cwd=self.folder,
            env=self.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, command: str) -> tuple[int | None, str, str]:
        """Run a command to its end; return exit code, stdout and stderr."""
        process = await self.start(command)
        out, err = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode, out.decode(), err.decode()


def list_names(folder: Path) -> list[str]:
    """Return the names of the files in a folder."""
    return sorted(path.name for path in folder.iterdir())


async def test_printed_commands(tmp_path: Path) -> None:
    """The gateway starts, the first key gets a chat, and the projects are listed."""
    port = free_port()
    shell = Shell(tmp_path, MAXGATE_SERVER__PORT=str(port))
    async with serving(FakeMax()) as engine, httpx.AsyncClient(verify=TLS) as client:
        code, out, err = await shell.run(f"maxgate init --engine-url {engine}")
        assert (code, err) == (0, "The keys are shown only now.\n")
        serve, curl, projects = [line[2:] for line in out.splitlines() if line.startswith("  ")]
        gateway = await shell.start(serve)

        async def is_ready() -> bool:
            assert gateway.returncode is None
            try:
                ready = f"http://127.0.0.1:{port}/health/ready"
                return (await client.get(ready)).status_code == 200
            except httpx.HTTPError:
                return False

        try:
            await until(is_ready, within=30)
            code, response, _ = await shell.run(curl)
            assert (code, "The capital of France is Paris." in response) == (0, True)
            admin = re.search(r"^admin key +(\S+)$", out, re.MULTILINE)
            assert admin is not None
            engines = await client.get(
                f"http://127.0.0.1:{port}/admin/engines",
                headers={"authorization": f"Bearer {admin[1]}"},
            )
            assert engines.status_code == 200
            code, listed, _ = await shell.run(projects)
            assert (code, listed.splitlines()[1].split()[:3]) == (
                0,
                ["default", "Default", "project"],
            )
        finally:
            gateway.send_signal(signal.SIGTERM)
            await asyncio.wait_for(gateway.communicate(), 20)


async def test_second_run(tmp_path: Path) -> None:
    """A second run keeps everything and says so; `--force` replaces the file alone."""
    shell = Shell(tmp_path)
    code, first, _ = await shell.run("maxgate init")
    keys = re.findall(r"sk-mg-\w+", first)
    modes = {
        name: stat.S_IMODE((tmp_path / name).stat().st_mode)
        for name in ("maxgate.yaml", "state/pepper", "state/maxgate.db")
    }
    assert code == 0
    assert modes == {"maxgate.yaml": 0o600, "state/pepper": 0o600, "state/maxgate.db": 0o600}
    assert len(keys) == 3  # the project's key is in the curl command, too
    assert all(map(is_well_formed, keys))

    (tmp_path / "maxgate.yaml").write_text("auth: {mode: keys}  # mine\n")
    code, second, err = await shell.run("maxgate init")
    assert (code, err) == (0, "")
    assert second.splitlines()[:5] == [
        "settings     maxgate.yaml exists and is kept",
        f"database     {tmp_path}/state/maxgate.db exists",
        f"pepper       {tmp_path}/state/pepper exists; back it up",
        "admin key    exists; for another one: maxgate keys create --admin",
        "project key  exists; for another one: maxgate keys create --name NAME",
    ]
    assert 'Bearer $KEY"' in second

    code, third, _ = await shell.run("maxgate init --force --engine-url http://gpu:8000")
    assert (code, third.splitlines()[0]) == (0, "settings     maxgate.yaml written")
    assert (tmp_path / "maxgate.yaml.old").read_text() == "auth: {mode: keys}  # mine\n"
    settings = yaml.safe_load((tmp_path / "maxgate.yaml").read_text())
    assert settings == {
        "server": {"host": "127.0.0.1", "port": 8000},
        "engines": [{"url": "http://gpu:8000"}],
        "auth": {"mode": "keys"},
    }


async def test_lost_pepper(tmp_path: Path) -> None:
    """Without the pepper of the keys, `init` changes nothing, and names the way out."""
    shell = Shell(tmp_path)
    assert (await shell.run("maxgate init"))[0] == 0
    pepper = tmp_path / "state" / "pepper"
    pepper.unlink()
    code, _, err = await shell.run("maxgate init")
    problem = "the pepper that the keys in the database were hashed with is missing"
    assert (code, err.startswith(f"maxgate: {pepper}: {problem}")) == (2, True)
    assert not pepper.exists()
    assert (await shell.run("maxgate serve"))[::2] == (code, err)

    assert (await shell.run("maxgate db accept-pepper"))[:2] == (
        0,
        f"Gateways with the pepper of {pepper} start from now on. Next: maxgate keys create "
        "--admin\n",
    )


@pytest.mark.parametrize(
    ("content", "flags", "message"),
    [
        ("auth: {mode: keys}\n", "--engine-url http://gpu:8000", "edit the file, or replace it"),
        ("server: {port: 1}\n", "", "setting auth.mode is not keys; write it in maxgate.yaml, or"),
        (None, "--database-url none", "setting database.url is none, so there is no database"),
        (None, "--engine-url gpu", "setting engines[0]"),
        ("auth: {mode: keys}\n", "--force --engine-url gpu", "setting engines[0]"),
    ],
)
async def test_wrong_use(tmp_path: Path, content: str | None, flags: str, message: str) -> None:
    """Settings that do not fit are refused in one line, and nothing else is created."""
    if content is not None:
        (tmp_path / "maxgate.yaml").write_text(content)
    code, _, err = await Shell(tmp_path).run(f"maxgate init {flags}")

    assert (code, err.count("\n")) == (2, 1)
    assert message in err
    assert list_names(tmp_path) == (["maxgate.yaml"] if content else [])


async def test_postgres(tmp_path: Path, postgres: PostgresServer) -> None:
    """With the URL of a database, its tables are created, and no password is printed."""
    schema = f"test_{uuid4().hex}"
    shell = Shell(tmp_path, MAXGATE_DATABASE__SCHEMA_NAME=schema)
    code, out, err = await shell.run(f"maxgate init --database-url '{postgres.url}'")
    assert (code, err) == (0, "The keys are shown only now.\n")
    assert out.splitlines()[1].endswith(" created")
    assert yaml.safe_load((tmp_path / "maxgate.yaml").read_text())["database"] == {
        "url": postgres.url
    }
    assert (await shell.run("maxgate projects show default"))[0] == 0
    assert not (tmp_path / "state" / "maxgate.db").exists()
