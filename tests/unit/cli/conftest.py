"""Commands on a database of keys."""

import sys
from pathlib import Path

import pytest

from maxgate.cli.main import main
from tests.fakes.command_line import Run


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `maxgate` with an empty database; returns exit code, stdout and stderr."""
    monkeypatch.setenv("MAXGATE_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("MAXGATE_AUTH__MODE", "keys")

    def run_command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["maxgate", *arguments])
        with pytest.raises(SystemExit) as exit_:
            main()
        output = capsys.readouterr()
        return int(exit_.value.code or 0), output.out, output.err

    return run_command
