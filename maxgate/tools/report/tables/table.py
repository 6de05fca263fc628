"""A table of text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Tone = Literal["", "good", "bad", "unsure"]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text; `tones` says of each row whether it is good news."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    tones: Sequence[Tone] = ()
    note: str = ""

    def tone(self, row: int) -> Tone:
        """Of one row."""
        return self.tones[row] if self.tones else ""
