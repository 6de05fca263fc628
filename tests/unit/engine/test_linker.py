"""MAX can link without a C compiler."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from maxgate.engine import linker
from tests.conftest import ROOT

_MODULE = """
@export
def answer() abi("C") -> Int:
    return 42
"""


def test_linker_arguments() -> None:
    """A compiler's arguments become the linker's, without system libraries."""
    given = (
        "-shared -Wl,--whole-archive /x/m.a -Wl,-z,now -Xlinker -rpath -Xlinker /lib -o m.so -lm"
    )

    assert list(linker.linker_arguments(given.split())) == [
        *("-shared", "--whole-archive", "/x/m.a", "-z", "now", "-rpath", "/lib", "-o", "m.so"),
    ]


@pytest.mark.parametrize("compiler", ["cc", "gcc", "clang", None])
def test_linker_environment(
    compiler: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`maxgate-link` is used only if there is no C compiler."""
    for name in (compiler, "maxgate-link"):
        if name:
            _executable(tmp_path / name, "#!/bin/sh\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    expected = {"MODULAR_MOJO_MAX_LINKER_DRIVER": str(tmp_path / "maxgate-link")}

    assert linker.linker_environment() == ({} if compiler else expected)


def test_other_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If MAX is in another environment, `maxgate-link` gets the path of the lld there."""
    _executable(tmp_path / "maxgate-link", "#!/bin/sh\n")
    lld = tmp_path / "other" / "lib" / "python3.11" / "site-packages" / "modular" / "bin" / "lld"
    lld.parent.mkdir(parents=True)
    lld.touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))

    environment = linker.linker_environment(tmp_path / "other" / "bin" / "python")

    assert environment["MAXGATE_LINK_LLD"] == str(lld)


def test_link(tmp_path: Path) -> None:
    """MAX's compiler, with `maxgate-link` as its linker, builds a library that loads."""
    source, library = tmp_path / "answer.mojo", tmp_path / "libanswer.so"
    source.write_text(_MODULE)
    program = tmp_path / "maxgate-link"
    _executable(
        program,
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from maxgate.engine.linker import main\nmain()\n",
    )

    mojo = Path(sys.executable).parent / "mojo"
    subprocess.run(
        [mojo, "build", "--emit", "shared-lib", "-o", library, source],
        env={"MODULAR_MOJO_MAX_LINKER_DRIVER": str(program), "HOME": str(tmp_path)},
        check=True,
        capture_output=True,
    )

    assert ctypes.CDLL(str(library)).answer() == 42


def _executable(file: Path, content: str) -> None:
    file.write_text(content)
    file.chmod(0o755)
