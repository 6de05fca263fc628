"""One run as a page: tables, versions, machine."""

from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.gateway.machine import libraries, machine, revision, today
from benchmarks.gateway.results import Results
from benchmarks.gateway.table import aims_table, results_table

RESULTS = Path(__file__).parent / "RESULTS.md"


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
        shown = ", ".join(f"{name} {self.versions[name]}" for name in present)
        lines = [
            f"{today()}, maxgate at {revision()}, medians of {self.repeat} rounds of "
            f"{self.seconds:g} s per gateway and case.",
            f"Machine: {machine()}.",
            f"Gateways: {shown}.",
            f"maxgate ran on {libraries()}.",
            *(f"Absent: {name}: {reason}." for name, reason in self.absent.items()),
        ]
        return "\n\n".join(
            ["\n".join(f"- {line}" for line in lines), results_table(self.results, present),
             aims_table(self.results)]
        )  # fmt: skip


def keep(run: Run) -> None:
    """Write it down as the last result."""
    RESULTS.write_text(
        f"# The last result\n\nHow to read it: [README.md](README.md).\n\n{run.text()}\n"
    )
