"""Commands that install missing packages, for each way to install maxgate."""

import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from maxgate.errors import ConfigurationError
from maxgate.installation import Installation, requires_extra

BASE = Path("/usr/bin/python3")
CHECKOUT = Path("/src/maxgate")


def make_environment(folder: Path, *, pip: bool = True) -> Path:
    """Create the folders of a virtual environment."""
    (folder / "bin").mkdir(parents=True)
    if pip:
        (folder / "bin" / "pip").touch()
    return folder


def test_checkout(tmp_path: Path) -> None:
    """In a checkout, paths are relative to the current folder."""
    environment = make_environment(tmp_path / ".venv")
    found = Installation(environment, BASE, tmp_path, editable=True, folder=tmp_path)

    assert found.format_install("tools") == ".venv/bin/pip install -e '.[tools]'"
    assert found.format_install() == ".venv/bin/pip install -e ."
    assert found.format_pip() == ".venv/bin/pip"


def test_other_folder(tmp_path: Path) -> None:
    """Outside of the checkout, paths are absolute, and those with spaces are quoted."""
    environment = make_environment(tmp_path / "my env")
    found = Installation(environment, BASE, CHECKOUT, editable=False, folder=Path("/"))
    inside = str(environment.relative_to("/"))

    assert found.format_install("tools") == f"'{inside}/bin/pip' install '/src/maxgate[tools]'"


def test_package_index(tmp_path: Path) -> None:
    """Without a source folder, the package is installed by name."""
    environment = make_environment(tmp_path / ".venv")
    found = Installation(environment, BASE, None, editable=False, folder=tmp_path)

    assert found.format_install("tools") == ".venv/bin/pip install 'maxgate[tools]'"
    assert replace(found, environment=None).format_install("tools") == (
        "/usr/bin/python3 -m pip install 'maxgate[tools]'"
    )


def test_checkout_without_environment(tmp_path: Path) -> None:
    """The command creates the checkout's environment if there is none."""
    found = Installation(tmp_path / ".venv", BASE, tmp_path, editable=True, folder=tmp_path)

    assert found.format_install("tools") == (
        "/usr/bin/python3 -m venv .venv && .venv/bin/pip install -e '.[tools]'"
    )


def test_environment_without_pip(tmp_path: Path) -> None:
    """An environment without pip is managed by the pip of its base Python."""
    environment = make_environment(tmp_path / ".venv", pip=False)
    found = Installation(environment, BASE, None, editable=False, folder=tmp_path)

    assert found.format_pip() == "/usr/bin/python3 -m pip --python .venv/bin/python"


def test_maxgate_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`maxgate` is named by its path, unless the shell finds the same one by name."""
    own, other = (make_environment(tmp_path / name) for name in (".venv", "other"))
    for environment in (own, other):
        (environment / "bin" / "maxgate").touch(mode=0o755)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "maxgate").symlink_to(own / "bin" / "maxgate")
    found = Installation(own, BASE, tmp_path, editable=True, folder=tmp_path)

    commands = {}
    for folder in ("none", "other/bin", ".venv/bin", "links"):
        monkeypatch.setenv("PATH", str(tmp_path / folder))
        commands[folder] = found.format_maxgate()
    assert commands == {
        "none": ".venv/bin/maxgate",
        "other/bin": ".venv/bin/maxgate",
        ".venv/bin": "maxgate",
        "links": "maxgate",
    }


def test_maxgate_command_without_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a script of that name, the running Python is named."""
    monkeypatch.setenv("PATH", "")
    found = Installation(tmp_path / ".venv", BASE, tmp_path, editable=True, folder=tmp_path)

    for installation in (found, replace(found, environment=None)):
        assert installation.format_maxgate() == f"{sys.executable} -m maxgate"


def test_requires_extra() -> None:
    """A missing package is a missing extra; a missing module of maxgate is a bug."""
    with (
        pytest.raises(ConfigurationError, match=r"^charts needs the extra `tools`; run: "),
        requires_extra("charts", "tools"),
    ):
        import_module("no_such_package")
    with pytest.raises(ModuleNotFoundError), requires_extra("charts", "tools"):
        import_module("maxgate.no_such_module")
