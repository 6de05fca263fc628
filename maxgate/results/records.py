"""Raw records: one row per request, and the arrival time of every chunk.

Stored as columns in one compressed `.npz` file, from which every number of a report can be
recomputed. Records of several processes or machines can be joined without loss, because times are
relative to the start of the level: timestamps of two clocks are never subtracted. Times are in
seconds; nan means that the event never happened.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from maxgate.results.files import ReportError, draft_path

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
"""Integer columns. Token counts are -1 if unreported; `error` is an index into `Records.errors`."""

Column = NDArray[Any]


@dataclass(frozen=True)
class Records:
    """The requests of one level.

    `stamps` holds the arrival times of all chunks, row after row; the column `chunks` has the
    number per row. `arrival_uncertainty` says how many seconds earlier each chunk may have arrived
    while the client was busy.
    """

    columns: dict[str, Column]
    stamps: NDArray[np.float64]
    arrival_uncertainty: NDArray[np.float64]
    errors: Sequence[str]
    """Error kinds; the first is the empty string, for success."""

    def __len__(self) -> int:
        return len(self.columns["sent"])

    def __getitem__(self, column: str) -> Column:
        return self.columns[column]

    def select(self, mask: NDArray[np.bool_]) -> "Records":
        """Return the rows where the mask is true."""
        kept = np.repeat(mask, self.columns["chunks"])
        columns = {name: column[mask] for name, column in self.columns.items()}
        return Records(columns, self.stamps[kept], self.arrival_uncertainty[kept], self.errors)


def join(parts: Sequence[Records]) -> Records:
    """Concatenate all rows and sort them by send time."""
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
    uncertainty = np.concatenate([part.arrival_uncertainty for part in parts])
    order = np.argsort(columns["sent"], kind="stable")
    ends = np.cumsum(columns["chunks"])
    starts = ends - columns["chunks"]
    ranges = [np.arange(starts[row], ends[row]) for row in order]
    picked = np.concatenate([np.empty(0, np.int64), *ranges])
    sorted_columns = {name: column[order] for name, column in columns.items()}
    return Records(sorted_columns, stamps[picked], uncertainty[picked], kinds)


def write_records(levels: Sequence[Records], path: Path) -> None:
    """Write all levels of a run to one file, atomically; create missing folders."""
    arrays: dict[str, Column] = {}
    for number, level in enumerate(levels):
        arrays |= {f"{number}/{name}": column for name, column in level.columns.items()}
        arrays[f"{number}/stamps"] = level.stamps
        arrays[f"{number}/held"] = level.arrival_uncertainty
        arrays[f"{number}/errors"] = np.array(level.errors, dtype=np.str_)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = draft_path(path)
    with draft.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    draft.replace(path)


def read_records(path: Path) -> list[Records]:
    """Read the records of all levels. Raises ReportError."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            count = 1 + max(int(name.split("/")[0]) for name in file.files)
            return [_read_level(file, number) for number in range(count)]
    except (OSError, BadZipFile, KeyError, ValueError, EOFError) as error:
        raise ReportError(f"{path}: not the raw records of a load test ({error})") from error


def _read_level(file: Any, number: int) -> Records:
    columns = {name: file[f"{number}/{name}"] for name in (*TIMES, *COUNTS)}
    stamps = file[f"{number}/stamps"].astype(np.float64)
    name = f"{number}/held"
    # Files of older versions have no such array.
    uncertainty = file[name].astype(np.float64) if name in file.files else np.zeros_like(stamps)
    if not len(stamps) == len(uncertainty) == columns["chunks"].sum():
        raise ValueError("the number of arrival times does not match the requests")
    return Records(columns, stamps, uncertainty, file[f"{number}/errors"].tolist())
