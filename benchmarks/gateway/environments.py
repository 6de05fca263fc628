"""Environments of the other gateways under `.bench/`, installed once, apart from the project's."""

import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".bench"
_INSTALL_TIMEOUT = 900


class Unavailable(Exception):
    """A gateway cannot be installed or started; the message names the reason."""


@dataclass(frozen=True)
class PythonPackage:
    """A package of the Python index, installed into a virtual environment."""

    requirement: str

    @property
    def name(self) -> str:
        """The requirement without extras."""
        return self.requirement.split("[", maxsplit=1)[0]

    @property
    def folder(self) -> Path:
        """The virtual environment."""
        return FOLDER / self.name

    def program(self, name: str) -> str:
        """Return the path of one of the package's scripts."""
        return str(self.folder / "bin" / name)

    def version(self) -> str | None:
        """Return the installed version, or None."""
        code = f"from importlib.metadata import version; print(version({self.name!r}))"
        try:
            done = subprocess.run(
                [self.program("python"), "-c", code],
                capture_output=True, text=True, check=True, timeout=60,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    def install(self) -> None:
        """Install the newest version from the index that pip is configured for."""
        _run(self.name, [sys.executable, "-m", "venv", str(self.folder)])
        _run(self.name, [self.program("pip"), "install", self.requirement])


@dataclass(frozen=True)
class NodePackage:
    """A package of the npm registry, installed into a folder."""

    requirement: str

    @property
    def name(self) -> str:
        """The requirement as the name of a folder."""
        return self.requirement.removeprefix("@").replace("/", "-")

    @property
    def folder(self) -> Path:
        """The package's folder below node_modules."""
        return FOLDER / self.name / "node_modules" / self.requirement

    def program(self, name: str) -> str:
        """Return the path of one of the package's files."""
        return str(self.folder / name)

    def version(self) -> str | None:
        """Return the installed version, or None."""
        manifest = self.folder / "package.json"
        return str(json.loads(manifest.read_text())["version"]) if manifest.exists() else None

    def install(self) -> None:
        """Install the newest version. Raises Unavailable without npm."""
        npm = shutil.which("npm")
        if npm is None:
            raise Unavailable("npm is not installed")
        prefix = FOLDER / self.name
        prefix.mkdir(parents=True, exist_ok=True)
        quiet = ["--no-fund", "--no-audit"]
        _run(self.name, [npm, "install", "--prefix", str(prefix), *quiet, self.requirement])


Package = PythonPackage | NodePackage


def ensure_installed(package: Package) -> str:
    """Install the package if it is missing; returns its version.

    Raises Unavailable if the installation fails.
    """
    found = package.version()
    if found is None:
        began = time.monotonic()
        print(f"installing {package.requirement} ...", end=" ", flush=True, file=sys.stderr)
        package.install()
        print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
        found = package.version()
    if found is None:
        raise Unavailable("not found after its installation")
    return found


def _run(name: str, command: list[str]) -> None:
    """Run an installer with its output in `.bench/logs/NAME.install`."""
    log = FOLDER / "logs" / f"{name}.install"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        try:
            subprocess.run(command, stdout=file, stderr=file, check=True, timeout=_INSTALL_TIMEOUT)
        except (OSError, subprocess.SubprocessError) as error:
            print("failed", file=sys.stderr)
            raise Unavailable(f"installation failed, see {log.relative_to(ROOT)}") from error
