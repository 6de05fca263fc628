"""RESULTS.md: one part per measurement, each replaced by its last run."""

import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path

FILE = Path(__file__).parent / "RESULTS.md"


def write_part(title: str, command: str, text: str) -> None:
    """Put this in the place of the part with the same title, or at the end."""
    head = "# What the load test measures, measured\n"
    before = FILE.read_text() if FILE.exists() else head
    parts = re.split(r"(?m)^(?=## )", before)
    when = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    where = f"{os.cpu_count()} cores, Python {platform.python_version()}"
    part = f"## {title}\n\n`{command}`, {when}, {where}.\n\n{text.strip()}\n\n"
    kept = [one for one in parts if not one.startswith(f"## {title}\n")]
    FILE.write_text("".join([*kept[:1], *sorted([*kept[1:], part])]).rstrip() + "\n")
