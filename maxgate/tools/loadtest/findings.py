"""What a run has brought so far, and who is told."""

from dataclasses import dataclass, field
from typing import Protocol

from maxgate.tools.loadtest.job import Progress
from maxgate.tools.results.level import Level
from maxgate.tools.results.records import Records
from maxgate.tools.results.verdict import Saturation


class Screen(Protocol):
    """Who is told how it goes."""

    def phase(self, text: str, seconds: float | None) -> None:
        """Something begins that takes this long, as far as one knows."""
        ...

    def progress(self, progress: Progress) -> None:
        """How far it is."""
        ...


@dataclass
class Findings:
    """What a run has brought so far."""

    levels: list[Level] = field(default_factory=list)
    records: list[Records] = field(default_factory=list)
    saturation: Saturation | None = None
    server: str | None = None
    interrupted: bool = False
