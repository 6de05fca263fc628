"""The machine and the versions in use, for the report."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version

import psutil

from maxgate.tools.results.run import Machine

_PACKAGES = ("maxgate", "httptools", "uvloop", "numpy", "orjson", "pydantic")


def this_machine() -> Machine:
    """What the client runs on."""
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        processor=_processor(),
        cores=os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        python=platform.python_version(),
    )


def versions() -> dict[str, str]:
    """Of the packages that numbers depend on; those that are not installed are left out."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123  # not a file on disk
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
