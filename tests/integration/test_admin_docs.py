"""Every command of docs/admin.md works, in its order, against a running gateway."""

import asyncio
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import Any

import pytest
import typer

from maxgate.cli import database, init, keys, limits, projects, users
from maxgate.cli.main import main
from maxgate.settings_names import LOCATIONS
from tests.conftest import ROOT
from tests.fakes.gateway import SMALL_CARD
from tests.fakes.max_server import FakeMax
from tests.fakes.processes import api_server
from tests.fakes.server import serving

PAGE = ROOT / "docs" / "admin.md"
GATEWAY = "http://localhost:8000"


def read_commands() -> list[str]:
    """Return the lines of all examples."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def list_commands(command: Any, name: str) -> Iterator[str]:
    """Yield the names of a command's subcommands that have none themselves."""
    if not hasattr(command, "commands"):
        yield name
        return
    for part, below in command.commands.items():
        yield from list_commands(below, f"{name} {part}")


def test_every_command() -> None:
    """The page has an example of each command."""
    app = typer.Typer()
    app.command("init")(init.init)
    groups = {
        "db": database,
        "projects": projects,
        "users": users,
        "keys": keys,
        "limits": limits,
    }
    for group, part in groups.items():
        app.add_typer(part.commands(), name=group)
    known = set(list_commands(typer.main.get_command(app), "maxgate"))
    lines = read_commands()

    assert {name for name in known if not any(name in line for line in lines)} == set()


class Shell:
    """Runs lines of the page; `maxgate` runs in this process, which is faster."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self._variables: dict[str, str] = {}

    def run(self, line: str) -> None:
        """Run a command, or keep its output in a variable; fails if the command does."""
        found = re.fullmatch(r"(\w+)=\$\((.*)\)", line)
        command, *filters = (found[2] if found else line).split(" | ", 1)
        command = Template(command).substitute(self._variables)
        run = self._run_maxgate if command.startswith("maxgate ") else self._run_program
        output = run(command)
        for program in filters:
            output = self._run_program(program, output)
        if found:
            self._variables[found[1]] = output.strip()

    def _run_maxgate(self, command: str) -> str:
        self._monkeypatch.setattr(sys, "argv", shlex.split(command))
        with pytest.raises(SystemExit) as ended:
            main()
        output = self._capsys.readouterr()
        assert not ended.value.code, (command, output)
        return output.out

    def _run_program(self, command: str, text: str = "") -> str:
        command = re.sub(r"^curl ", "curl --silent --show-error --fail ", command)
        ended = subprocess.run(
            ["bash", "-c", command],  # noqa: S607
            input=text,
            capture_output=True,
            check=False,
            text=True,
            timeout=20,
        )
        assert ended.returncode == 0, (command, ended)
        return ended.stdout


async def test_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All commands succeed, in the order of the page."""
    monkeypatch.chdir(tmp_path)
    for name in LOCATIONS:
        monkeypatch.delenv(name, raising=False)
    environment = {"MAXGATE_STATE_DIR": str(tmp_path / "state"), "MAXGATE_AUTH__MODE": "keys"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    shell = Shell(monkeypatch, capsys)
    async with (
        serving(FakeMax()) as engine,
        api_server("--engine-url", engine, "--card", str(SMALL_CARD), **environment) as server,
    ):
        for line in read_commands():
            await asyncio.to_thread(shell.run, line.replace(GATEWAY, server.url))
