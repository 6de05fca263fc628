"""Errors of the output of any command."""

import errno
import os
import sys
from pathlib import Path

import pytest
import typer

from maxgate.cli.run import run


def test_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Output to a full disk is one line and exit code 1, not a traceback."""

    def fail() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with (tmp_path / "out").open("w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        with pytest.raises(SystemExit) as ended:
            run(fail, "tool", [])
    message = "tool: cannot write: No space left on device\n"
    assert (ended.value.code, capsys.readouterr().err) == (1, message)


@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
def test_closed_stream(stream: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A standard stream that the parent process has closed changes nothing."""
    monkeypatch.setattr(sys, stream, None)
    with pytest.raises(SystemExit) as ended:
        run(lambda: typer.echo("done"), "tool", [])
    assert ended.value.code == 0
    getattr(sys, stream).close()
