"""Format a run with its machine and versions, and keep it in RESULTS.md."""

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.gateway.environments import ROOT
from benchmarks.gateway.results import Results
from benchmarks.gateway.table import format_goals, format_results

RESULTS = Path(__file__).parent / "RESULTS.md"
_TITLE = "# Last results\n\nSee [README.md](README.md) for what the columns mean.\n"
_LIBRARIES = ("uvloop", "httptools", "httpx", "pydantic", "orjson", "uvicorn", "tokenizers")


@dataclass
class Run:
    """A run of all cases: its settings, the gateways' versions and the results."""

    repeat: int
    seconds: float
    results: Results = field(default_factory=Results)
    versions: dict[str, str] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)

    def format(self) -> str:
        """Format the run as Markdown."""
        available = [name for name in self.versions if name not in self.unavailable]
        notes = [
            f"Medians of {self.repeat} rounds of {self.seconds:g} s per gateway and case.",
            "Gateways: " + ", ".join(f"{name} {self.versions[name]}" for name in available) + ".",
            *(f"Unavailable: {name}: {reason}." for name, reason in self.unavailable.items()),
        ]
        tables = [format_results(self.results, available), format_goals(self.results)]
        return "\n\n".join([describe_environment(notes), *tables])


def describe_environment(notes: Sequence[str] = ()) -> str:
    """Return a list of date, revision, library versions, machine and `notes`."""
    today = datetime.now(UTC).date().isoformat()
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    lines = [
        f"{today}, maxgate at {find_revision(ROOT)}, "
        f"on Python {platform.python_version()}, {libraries}.",
        f"Machine: {describe_machine()}.",
        *notes,
    ]
    return "\n".join(f"- {line}" for line in lines)


def describe_machine() -> str:
    """Return processor, number of cores and kernel version."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    processor = names[0] if names else platform.machine()
    return f"{processor}, {os.cpu_count()} cores, Linux {platform.release()}"


def find_revision(checkout: Path) -> str:
    """Return the abbreviated commit of a checkout, with `-dirty` if it has changes."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    done = subprocess.run(
        [git, "describe", "--always", "--dirty"],
        cwd=checkout, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.strip() or "unknown"


def write_section(title: str, text: str) -> None:
    """Write a section of RESULTS.md in place of its last result."""
    page = RESULTS.read_text() if RESULTS.exists() else _TITLE
    RESULTS.write_text(replace_section(page, title, text))


def replace_section(page: str, title: str, text: str) -> str:
    """Replace the text of a section, or append the section."""
    head, *sections = page.split("\n## ")
    texts = dict(section.split("\n", 1) for section in sections)
    texts[title] = f"\n{text}\n"
    return "\n## ".join([head, *(f"{name}\n{body}" for name, body in texts.items())])
