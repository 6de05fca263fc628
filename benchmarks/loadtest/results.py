"""Write RESULTS.md: one part per measurement, replaced by each run."""

import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path

FILE = Path(__file__).parent / "RESULTS.md"


def write_part(title: str, command: str, text: str) -> None:
    """Write the part with this title; the parts are sorted by title."""
    head = "# Benchmarks of the load test\n"
    before = FILE.read_text() if FILE.exists() else head
    parts = re.split(r"(?m)^(?=## )", before)
    when = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    where = f"{os.cpu_count()} cores, Python {platform.python_version()}"
    part = f"## {title}\n\n`{command}`, {when}, {where}.\n\n{text.strip()}\n\n"
    kept = [one for one in parts if not one.startswith(f"## {title}\n")]
    FILE.write_text("".join([*kept[:1], *sorted([*kept[1:], part])]).rstrip() + "\n")
