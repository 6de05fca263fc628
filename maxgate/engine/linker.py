"""`maxgate-link`: a stand-in for the C compiler that MAX links with.

When it is first imported, MAX compiles a small module and calls a C compiler to link it. MAX ships
the linker itself, lld; this program translates the compiler's arguments and runs lld.
"""

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

_COMPILERS: Final = ("cc", "gcc", "clang")
# Path of lld if MAX is installed in another environment than this program.
_LLD_VARIABLE: Final = "MAXGATE_LINK_LLD"


def linker_environment(python: Path | None = None) -> dict[str, str]:
    """Return the variables that make MAX link with `maxgate-link`; empty if there is a C compiler.

    `python` is the Python of MAX's environment, if that is not this one.
    """
    program = Path(sys.executable).parent / "maxgate-link"
    if sys.platform != "linux" or any(map(shutil.which, _COMPILERS)) or not program.exists():
        return {}
    variables = {"MODULAR_MOJO_MAX_LINKER_DRIVER": str(program)}
    if python is not None:
        environment = python.expanduser().absolute().parents[1]
        for lld in environment.glob("lib/python*/site-packages/modular/bin/lld"):
            variables[_LLD_VARIABLE] = str(lld)
    return variables


def linker_arguments(arguments: Sequence[str]) -> Iterator[str]:
    """Yield the linker's arguments for those of a C compiler.

    Omits system libraries: Python has loaded them before it loads the module.
    """
    remaining = iter(arguments)
    for argument in remaining:
        if argument == "-Xlinker":
            yield next(remaining)
        elif argument.startswith("-Wl,"):
            yield from argument.removeprefix("-Wl,").split(",")
        elif not argument.startswith("-l"):
            yield argument


def main() -> None:
    """Replace this process with lld."""
    lld = os.environ.get(_LLD_VARIABLE) or _find_lld()
    # lld selects its target format by the name it is called with.
    os.execv(lld, ["ld.lld", *linker_arguments(sys.argv[1:])])  # noqa: S606  # no shell needed


def _find_lld() -> str:
    modular = find_spec("modular")
    if modular is None or not modular.submodule_search_locations:
        sys.exit("maxgate-link: MAX is not installed")
    return str(Path(modular.submodule_search_locations[0]) / "bin" / "lld")
