"""The options of `maxgate` itself, and the commands that forward to the tools."""

import io
import sys

import pytest

from maxgate import __version__
from maxgate.cli.main import main
from maxgate.cli.run import run as run_command
from maxgate.errors import ConfigurationError


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[object, str, str]:
    """Return exit code, stdout and stderr of `maxgate`."""
    monkeypatch.setattr("sys.argv", ["maxgate", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code, *capsys.readouterr()


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """--version prints name and version."""
    assert run(monkeypatch, capsys, "--version") == (0, f"maxgate {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["load-test", "-c", "4", "-r", "5"], 2, "maxgate load-test: --rate and --concurrency ex"),
        (["load-test", "merge", "none.json"], 2, "maxgate load-test: none.json: No such file"),
        (["load-test", "--url", "http://127.0.0.1:9"], 1, "maxgate load-test: cannot reach http"),
        (["monitor", "--json"], 2, "maxgate monitor: --json requires --once\n"),
        (["report", "none.json", "-q"], 2, "maxgate report: none.json: No such file"),
    ],
)
def test_tools(
    arguments: list[str],
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The tools take the flags of their scripts, and set the exit code."""
    result = run(monkeypatch, capsys, *arguments)

    assert (result[0], result[1], result[2][: len(message)]) == (code, "", message)
    assert result[2].count("\n") == 1


def test_terminal_without_utf8(monkeypatch: pytest.MonkeyPatch) -> None:
    """Characters that the terminal lacks are replaced by similar ones."""

    def command() -> None:
        sys.stdout.write("±5 µs …\n")
        raise ConfigurationError("no model \N{HIRAGANA LETTER A}")

    streams = [io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2)]
    monkeypatch.setattr("sys.stdout", streams[0])
    monkeypatch.setattr("sys.stderr", streams[1])
    with pytest.raises(SystemExit):
        run_command(command, "tool", [])
    for stream in streams:
        stream.flush()
        stream.seek(0)
    assert [stream.read() for stream in streams] == ["~5 us ~\n", "tool: no model ?\n"]
