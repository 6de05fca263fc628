"""One run as a page: tables, versions, machine."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.gateway.machine import libraries, machine, revision, today
from benchmarks.gateway.results import Results
from benchmarks.gateway.table import aims_table, results_table

RESULTS = Path(__file__).parent / "RESULTS.md"
_TITLE = "# The last results\n\nHow to read them: [README.md](README.md).\n"


@dataclass
class Run:
    """What took part, what did not, and what came out."""

    repeat: int
    seconds: float
    results: Results = field(default_factory=Results)
    versions: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """In Markdown."""
        present = [name for name in self.versions if name not in self.absent]
        notes = [
            f"Medians of {self.repeat} rounds of {self.seconds:g} s for each gateway and case.",
            "Gateways: " + ", ".join(f"{name} {self.versions[name]}" for name in present) + ".",
            *(f"Absent: {name}: {reason}." for name, reason in self.absent.items()),
        ]
        tables = [results_table(self.results, present), aims_table(self.results)]
        return "\n\n".join([describe(notes), *tables])


def describe(notes: Sequence[str] = ()) -> str:
    """What the numbers have to be read with."""
    lines = [
        f"{today()}, maxgate at {revision()}, on {libraries()}.",
        f"Machine: {machine()}.",
        *notes,
    ]
    return "\n".join(f"- {line}" for line in lines)


def keep(title: str, text: str) -> None:
    """Write it down as the last result of its kind."""
    page = RESULTS.read_text() if RESULTS.exists() else _TITLE
    RESULTS.write_text(with_section(page, title, text))


def with_section(page: str, title: str, text: str) -> str:
    """The page with this section's text replaced, or added at its end."""
    head, *sections = page.split("\n## ")
    texts = dict(section.split("\n", 1) for section in sections)
    texts[title] = f"\n{text}\n"
    return "\n## ".join([head, *(f"{name}\n{body}" for name, body in texts.items())])
