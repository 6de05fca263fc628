"""The long runs of `make soak`."""

import re
import runpy
import sys

import pytest

from tests.conftest import ROOT

_COMMAND = re.compile(r"\$\(call BOUNDED,(\d+)m,(\S+)(.*)\)")


def read_commands() -> list[tuple[int, str, list[str]]]:
    """Return the limit in minutes, the module and the arguments of each command."""
    text = (ROOT / "Makefile").read_text()
    return [(int(m), name, rest.split()) for m, name, rest in _COMMAND.findall(text)]


def test_commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command exists and has the flags that it gets."""
    for _, name, arguments in read_commands():
        path = ROOT / "benchmarks" / f"{name.replace('.', '/')}.py"
        monkeypatch.setattr(sys, "argv", [str(path), *arguments, "--help"])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(path), run_name="__main__")
        assert (ended.value.code, capsys.readouterr().err) == (0, ""), name
        flags = [argument for argument in arguments if argument.startswith("--")]
        assert [flag for flag in flags if f'"{flag}"' not in path.read_text()] == []


def test_duration() -> None:
    """The time that is printed at the start is the sum of the limits."""
    hours, minutes = divmod(sum(limit for limit, _, _ in read_commands()), 60)
    text = (ROOT / "Makefile").read_text()
    assert f"at most {hours} hours {minutes} minutes" in text
