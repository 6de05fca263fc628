"""Missing packages: one-line errors with the command that installs them.

Works before any dependency is installed, so it imports the standard library only.
"""

import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from json import loads
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

from maxgate.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Installation:
    """The installed maxgate, as far as pip commands need it.

    `environment` is the virtual environment to install into, if any; `base_python` is the Python
    outside of it. `source` is the folder that maxgate comes from, None for a package index.
    `folder` is the current folder.
    """

    environment: Path | None
    base_python: Path
    source: Path | None
    editable: bool
    folder: Path

    @classmethod
    def detect(cls) -> Self:
        """Describe the installation that runs this process."""
        checkout = Path(__file__).parent.parent
        editable = (checkout / "pyproject.toml").exists()
        in_environment = sys.prefix != sys.base_prefix
        # In a checkout, packages belong into its own environment, never into the system's Python.
        own = checkout / ".venv" if editable else None
        return cls(
            environment=Path(sys.prefix) if in_environment else own,
            base_python=Path(getattr(sys, "_base_executable", sys.executable)),
            source=checkout if editable else _find_source(),
            editable=editable,
            folder=Path.cwd(),
        )

    def format_pip(self) -> str:
        """Format the command `pip` of the environment, relative to the current folder."""
        if self.environment is None:
            return f"{self._show(self.base_python)} -m pip"
        pip, python = (self._show(self.environment / "bin" / name) for name in ("pip", "python"))
        if not self.environment.exists():
            return f"{self._show(self.base_python)} -m venv {self._show(self.environment)} && {pip}"
        if (self.environment / "bin" / "pip").exists():
            return pip
        # Environments made by uv, or with --without-pip, as in the image.
        return f"{self._show(self.base_python)} -m pip --python {python}"

    def format_maxgate(self) -> str:
        """Format the command `maxgate`, relative to the current folder unless it is in PATH."""
        own = None if self.environment is None else self.environment / "bin" / "maxgate"
        found = shutil.which("maxgate")
        if found and (own is None or Path(found).resolve() == own.resolve()):
            return "maxgate"
        if own is not None and own.exists():
            return self._show(own)
        return f"{shlex.quote(sys.executable)} -m maxgate"

    def format_install(self, extra: str = "") -> str:
        """Format the command that installs maxgate with the extra."""
        name = "maxgate" if self.source is None else str(self.source)
        if self.source == self.folder:
            name = "."
        requirement = shlex.quote(f"{name}[{extra}]" if extra else name)
        return f"{self.format_pip()} install {'-e ' if self.editable else ''}{requirement}"

    def _show(self, path: Path) -> str:
        inside = path.is_relative_to(self.folder)
        return shlex.quote(str(path.relative_to(self.folder) if inside else path))


def _find_source() -> Path | None:
    try:
        url = loads(distribution("maxgate").read_text("direct_url.json") or "{}").get("url", "")
    except PackageNotFoundError:
        return None
    folder = Path(unquote(urlsplit(url).path))
    return folder if (folder / "pyproject.toml").exists() else None


def missing_extra(purpose: str, extra: str = "") -> ConfigurationError:
    """Build the error for a missing extra, or for missing dependencies if `extra` is empty."""
    needed = f"the extra `{extra}`" if extra else "its dependencies"
    command = Installation.detect().format_install(extra)
    return ConfigurationError(f"{purpose} needs {needed}; run: {command}")


@contextmanager
def requires_extra(purpose: str, extra: str = "") -> Iterator[None]:
    """Raise ConfigurationError if the block imports a package that is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "maxgate").partition(".")[0] == "maxgate":
            raise
        raise missing_extra(purpose, extra) from error


def run_script(name: str, entry: str, extra: str = "") -> None:
    """Run `module:function`; exit with 2 and one line on stderr if a package is missing.

    Outside of the environment that the line names, it adds the Python to run the script with.
    """
    module, _, function = entry.partition(":")
    try:
        with requires_extra(name, extra):
            getattr(import_module(module), function)()
    except ConfigurationError as error:
        environment = Installation.detect().environment
        hint = ""
        if environment is not None and Path(sys.prefix) != environment:
            hint = f", then: {os.path.relpath(environment / 'bin' / 'python')} {name}"
        sys.stderr.write(f"{error}{hint}\n")
        sys.exit(2)
