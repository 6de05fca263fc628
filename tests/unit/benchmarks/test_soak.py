"""The long runs of `make soak`."""

import re

from tests.conftest import ROOT
from tests.fakes.processes import run_to_end

_COMMAND = re.compile(r"\$\(call BOUNDED,(\d+)m,(\S+)(.*)\)")


def read_commands() -> list[tuple[int, str, list[str]]]:
    """Return the limit in minutes, the module and the arguments of each command."""
    text = (ROOT / "Makefile").read_text()
    return [(int(m), name, rest.split()) for m, name, rest in _COMMAND.findall(text)]


async def test_commands() -> None:
    """Each command exists and has the flags that it gets."""
    for _, name, arguments in read_commands():
        code, output = await run_to_end("-m", f"benchmarks.{name}", *arguments, "--help")
        assert (code, output) == (0, ""), name
        source = (ROOT / "benchmarks" / f"{name.replace('.', '/')}.py").read_text()
        flags = [argument for argument in arguments if argument.startswith("--")]
        assert [flag for flag in flags if f'"{flag}"' not in source] == []


def test_duration() -> None:
    """The time that is printed at the start is the sum of the limits."""
    hours, minutes = divmod(sum(limit for limit, _, _ in read_commands()), 60)
    text = (ROOT / "Makefile").read_text()
    assert f"at most {hours} hours {minutes} minutes" in text
