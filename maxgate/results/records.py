"""Raw records: one row per request, and the arrival of every piece of output.

They are columns in one compressed file (`.npz`), so that every number of a report can be computed
again, and those of several processes or machines can be joined exactly. Times are seconds from the
start of the level; nan is never. No stamps of two clocks are ever subtracted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from maxgate.results.files import ReportError

TIMES: Final = (
    "scheduled",
    "sent",
    "first_byte",
    "first_event",
    "first_output",
    "last_output",
    "ended",
    "connect",
)
COUNTS: Final = (
    "index",
    "turn",
    "side",
    "worker",
    "warmup",
    "status",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "chunks",
    "shared",
    "error",
)
"""Tokens are -1 where the server did not say; `error` is a place in `Records.errors`, or 0."""

Column = NDArray[Any]


@dataclass(frozen=True)
class Records:
    """The requests of one level.

    `stamps` holds `chunks` arrivals of each row, in order of rows; `held` says how many seconds
    earlier each may have been there, while the client was busy.
    """

    columns: dict[str, Column]
    stamps: NDArray[np.float64]
    arrival_uncertainty: NDArray[np.float64]
    errors: Sequence[str]
    """Kinds of error; the first is the empty text for success."""

    def __len__(self) -> int:
        return len(self.columns["sent"])

    def __getitem__(self, column: str) -> Column:
        return self.columns[column]

    def select(self, mask: NDArray[np.bool_]) -> "Records":
        """The rows where the mask is true."""
        kept = np.repeat(mask, self.columns["chunks"])
        columns = {name: column[mask] for name, column in self.columns.items()}
        return Records(columns, self.stamps[kept], self.arrival_uncertainty[kept], self.errors)


def join(parts: Sequence[Records]) -> Records:
    """All rows, in order of departure."""
    kinds = ["", *sorted({kind for part in parts for kind in part.errors if kind})]
    columns = {
        name: np.concatenate([part.columns[name] for part in parts]) for name in (*TIMES, *COUNTS)
    }
    columns["error"] = np.concatenate(
        [
            np.array([kinds.index(kind) for kind in part.errors])[part.columns["error"]]
            for part in parts
        ]
    )
    stamps = np.concatenate([part.stamps for part in parts])
    held = np.concatenate([part.arrival_uncertainty for part in parts])
    order = np.argsort(columns["sent"], kind="stable")
    ends = np.cumsum(columns["chunks"])
    starts = ends - columns["chunks"]
    pieces = [np.arange(starts[row], ends[row]) for row in order]
    picked = np.concatenate([np.empty(0, np.int64), *pieces])
    sorted_columns = {name: column[order] for name, column in columns.items()}
    return Records(sorted_columns, stamps[picked], held[picked], kinds)


def write_records(levels: Sequence[Records], path: Path) -> None:
    """All levels of a run into one file, whole or not at all."""
    arrays: dict[str, Column] = {}
    for number, level in enumerate(levels):
        arrays |= {f"{number}/{name}": column for name, column in level.columns.items()}
        arrays[f"{number}/stamps"], arrays[f"{number}/held"] = (
            level.stamps,
            level.arrival_uncertainty,
        )
        arrays[f"{number}/errors"] = np.array(level.errors, dtype=np.str_)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    with draft.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    draft.replace(path)


def read_records(path: Path) -> list[Records]:
    """The levels in this file. Raises ReportError with one line that starts with the path."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            count = 1 + max(int(name.split("/")[0]) for name in file.files)
            return [_level(file, number) for number in range(count)]
    except (OSError, BadZipFile, KeyError, ValueError, EOFError) as error:
        raise ReportError(f"{path}: not the raw records of a load test ({error})") from error


def _level(file: Any, number: int) -> Records:
    columns = {name: file[f"{number}/{name}"] for name in (*TIMES, *COUNTS)}
    stamps = file[f"{number}/stamps"].astype(np.float64)
    name = f"{number}/held"
    # Older programs did not record it.
    held = file[name].astype(np.float64) if name in file.files else np.zeros_like(stamps)
    if not len(stamps) == len(held) == columns["chunks"].sum():
        raise ValueError("its arrivals do not match its requests")
    return Records(columns, stamps, held, file[f"{number}/errors"].tolist())
