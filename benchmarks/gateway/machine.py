"""What a result has to be read with: the machine and the versions."""

import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.gateway.environments import ROOT

_BESIDE_MAXGATE = ("uvloop", "httptools", "httpx", "pydantic", "orjson", "uvicorn", "tokenizers")


def machine() -> str:
    """Processor, cores, system."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    processor = names[0] if names else platform.machine()
    return f"{processor}, {os.cpu_count()} cores, Linux {platform.release()}"


def revision() -> str:
    """The commit that was measured."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    done = subprocess.run(
        [git, "describe", "--always", "--dirty"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.strip() or "unknown"


def libraries() -> str:
    """What maxgate ran on."""
    found = [f"{name} {version(name)}" for name in _BESIDE_MAXGATE]
    return ", ".join([f"Python {platform.python_version()}", *found])


def today() -> str:
    """As a date."""
    return datetime.now(UTC).date().isoformat()
