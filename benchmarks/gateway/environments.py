"""The rivals' own environments under `.bench/`: made once, kept, and never the project's."""

import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".bench"
_INSTALL_SECONDS = 900


class Absent(Exception):
    """A rival cannot take part; the message says why."""


@dataclass(frozen=True)
class PythonPackage:
    """A package of the Python index, in a virtual environment."""

    requirement: str

    @property
    def name(self) -> str:
        """Without extras."""
        return self.requirement.split("[", maxsplit=1)[0]

    @property
    def folder(self) -> Path:
        """The virtual environment."""
        return FOLDER / self.name

    def program(self, name: str) -> str:
        """The path of a script that the package brings."""
        return str(self.folder / "bin" / name)

    def version(self) -> str | None:
        """What is installed, if anything is."""
        question = f"from importlib.metadata import version; print(version({self.name!r}))"
        return _output([self.program("python"), "-c", question])

    def install(self) -> None:
        """From the index that pip is set up for."""
        _run(self.name, [sys.executable, "-m", "venv", str(self.folder)])
        _run(self.name, [self.program("pip"), "install", self.requirement])


@dataclass(frozen=True)
class NodePackage:
    """A package of npm's registry, in a folder."""

    requirement: str

    @property
    def name(self) -> str:
        """As a folder."""
        return self.requirement.removeprefix("@").replace("/", "-")

    @property
    def folder(self) -> Path:
        """Where npm puts it."""
        return FOLDER / self.name / "node_modules" / self.requirement

    def program(self, name: str) -> str:
        """The path of a file in the package."""
        return str(self.folder / name)

    def version(self) -> str | None:
        """What is installed, if anything is."""
        manifest = self.folder / "package.json"
        return str(json.loads(manifest.read_text())["version"]) if manifest.exists() else None

    def install(self) -> None:
        """Needs npm."""
        npm = shutil.which("npm")
        if npm is None:
            raise Absent("npm is not installed")
        prefix = FOLDER / self.name
        prefix.mkdir(parents=True, exist_ok=True)
        quiet = ["--no-fund", "--no-audit"]
        _run(self.name, [npm, "install", "--prefix", str(prefix), *quiet, self.requirement])


Package = PythonPackage | NodePackage


def ensure(package: Package) -> str:
    """Install what is missing; the version. Raises Absent where that fails."""
    found = package.version()
    if found is None:
        began = time.monotonic()
        print(f"installing {package.requirement} ...", end=" ", flush=True, file=sys.stderr)
        package.install()
        print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
        found = package.version()
    if found is None:
        raise Absent("installed, but not found afterwards")
    return found


def _output(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _run(name: str, command: list[str]) -> None:
    """With what it says kept in `.bench/logs/NAME.install`."""
    log = FOLDER / "logs" / f"{name}.install"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        try:
            subprocess.run(command, stdout=file, stderr=file, check=True, timeout=_INSTALL_SECONDS)
        except (OSError, subprocess.SubprocessError) as error:
            print("failed", file=sys.stderr)
            raise Absent(f"could not be installed, see {log.relative_to(ROOT)}") from error
