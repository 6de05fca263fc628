"""Write RESULTS.md: one part per measurement, replaced by each run."""

from datetime import UTC, datetime
from pathlib import Path

from benchmarks.gateway.environments import ROOT
from benchmarks.gateway.report import describe_machine, find_revision, replace_section

FILE = Path(__file__).parent / "RESULTS.md"
_TITLE = "# Last results of admission\n\nSee [README.md](README.md) for what is measured.\n"


def write_part(title: str, command: str, text: str) -> None:
    """Write the part with this title in place of its last result."""
    page = FILE.read_text() if FILE.exists() else _TITLE
    when = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    where = f"maxgate at {find_revision(ROOT)}, {describe_machine()}"
    part = f"    {command}\n\n{when}, {where}.\n\n{text.strip()}"
    FILE.write_text(replace_section(page, title, part))
