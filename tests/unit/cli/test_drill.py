"""The command `maxgate drill`: its flags, exit codes, and what it leaves behind."""

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
