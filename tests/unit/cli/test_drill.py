"""The command `maxgate drill`: its flags, exit codes, and what it leaves behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.command_line import Run


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without files of settings in the working directory."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--redis", "foo"], "--redis: not a Redis URL; write redis://host:6379/0"),
        (
            ["--redis", "redis://u:hunter2@127.0.0.1:1"],
            "scratch Redis at 127.0.0.1:1 is unreachable (Error 111 connecting to 127.0.0.1:1. "
            "Connect call failed ('127.0.0.1', 1).); start it, or correct --redis",
        ),
        (
            ["--database", "sqlite:////tmp/x.db"],
            "--database: not a PostgreSQL; write postgresql://user@host:5432/name, or leave the "
            "option out for a scratch SQLite",
        ),
        (
            ["--database", "sqlite:///x"],
            "--database: not a PostgreSQL; write postgresql://user@host:5432/name, or leave the "
            "option out for a scratch SQLite",
        ),
        (
            ["--database", "postgresql://u:hunter2@127.0.0.1:1/gate"],
            "scratch PostgreSQL at 127.0.0.1:1/gate is unreachable (connection failed: connection "
            'to server at "127.0.0.1", port 1 failed: Connection refused Is the server running on '
            "that host and accepting TCP/IP connections?); start it, or correct --database",
        ),
    ],
)
def test_stores(run: Run, flags: list[str], message: str) -> None:
    """A scratch store that is invalid or unreachable is an error before anything is played."""
    assert run("drill", *flags) == (2, "", f"maxgate: {message}\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_signals(tmp_path: Path, number: signal.Signals) -> None:
    """A drill that is ended by a signal leaves no files behind."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with subprocess.Popen(
        [sys.executable, "-m", "maxgate", "drill", "--only", "bad-key"],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(temporary), "MAXGATE_AUTH__MODE": "keys"},
        stderr=subprocess.PIPE,
    ) as drill:
        while not list(temporary.glob("maxgate-drill-*/*.log")):
            assert drill.poll() is None
        drill.send_signal(number)
        drill.communicate(timeout=30)
    assert (drill.returncode, list(temporary.iterdir())) == (130, [])


def test_keep(run: Run, tmp_path: Path) -> None:
    """A file cannot keep the logs."""
    file = tmp_path / "file"
    file.touch()
    message = f"maxgate: --keep {file}: not a folder; name a new one\n"
    assert run("drill", "--keep", str(file)) == (2, "", message)
