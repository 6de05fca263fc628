"""`maxgate-link`: stands in for the C compiler that MAX asks for.

MAX compiles a small module of its own when it is first imported, and has it linked by a C compiler.
The linker itself, lld, comes with MAX; this program hands it what a compiler would.
"""

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

_COMPILERS: Final = ("cc", "gcc", "clang")


def linker_environment() -> dict[str, str]:
    """What tells MAX to link with `maxgate-link`; nothing where there is a C compiler."""
    program = Path(sys.executable).parent / "maxgate-link"
    if sys.platform != "linux" or any(map(shutil.which, _COMPILERS)) or not program.exists():
        return {}
    return {"MODULAR_MOJO_MAX_LINKER_DRIVER": str(program)}


def linker_arguments(arguments: Sequence[str]) -> Iterator[str]:
    """What a C compiler called with these arguments would hand to the linker.

    Without system libraries: Python has loaded them before it loads the module.
    """
    given = iter(arguments)
    for argument in given:
        if argument == "-Xlinker":
            yield next(given)
        elif argument.startswith("-Wl,"):
            yield from argument.removeprefix("-Wl,").split(",")
        elif not argument.startswith("-l"):
            yield argument


def main() -> None:
    """Become the linker."""
    modular = find_spec("modular")
    if modular is None or not modular.submodule_search_locations:
        sys.exit("maxgate-link: MAX is not installed")
    lld = Path(modular.submodule_search_locations[0]) / "bin" / "lld"
    # The name decides what it links for.
    os.execv(lld, ["ld.lld", *linker_arguments(sys.argv[1:])])  # noqa: S606  # no shell is wanted
