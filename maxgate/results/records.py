"""Raw records: one row per request, and the arrival time of every chunk.

Stored as columns in one compressed `.npz` file, from which every number of a report can be
recomputed. Records of several processes or machines can be joined without loss, because times are
relative to the start of the level: timestamps of two clocks are never subtracted. Times are in
seconds; nan means that the event never happened.
"""

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

from maxgate.results.files import ReportError
from maxgate.results.output import open_output
from maxgate.results.quoting import shorten
from maxgate.results.report import Report

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

_MAX_SECONDS: Final = 1e9
_MAX_EXPANSION: Final = 300
_MAX_SMALL_EXPANSION_BYTES: Final = 64 * 2**20
_READ_ERRORS: Final = (
    OSError,
    BadZipFile,
    KeyError,
    ValueError,
    TypeError,
    EOFError,
    OverflowError,
    MemoryError,
    RuntimeError,  # an encrypted archive or another compression
    SyntaxError,
    struct.error,
    zlib.error,
)

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
    """Write all levels of a run to one file, atomically; create missing folders.

    Raises ConfigurationError.
    """
    arrays: dict[str, Column] = {}
    for number, level in enumerate(levels):
        arrays |= {f"{number}/{name}": column for name, column in level.columns.items()}
        arrays[f"{number}/stamps"] = level.stamps
        arrays[f"{number}/held"] = level.arrival_uncertainty
        arrays[f"{number}/errors"] = np.array(level.errors, dtype=np.str_)
    with open_output(path) as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def read_records(path: Path) -> list[Records]:
    """Read the records of all levels. Raises ReportError."""
    try:
        with path.open("rb") as opened:
            _check_sizes(opened)
            opened.seek(0)
            with np.load(opened, allow_pickle=False) as file:
                count = 1 + max(int(name.split("/")[0]) for name in file.files)
                if count > len(file.files):
                    raise ValueError(f"it has {len(file.files)} arrays for {count} levels")
                return [_read_level(file, number) for number in range(count)]
    except _READ_ERRORS as error:
        reason = shorten(str(error), 200)
        raise ReportError(f"{path}: not the raw records of a load test ({reason})") from error


def read_report_records(report: Report, path: Path) -> list[Records]:
    """Read the records of the report at `path`, one for each level and its baseline.

    Raises ReportError, also if the file belongs to another report.
    """
    records_path = path.with_name(report.records or "")
    records = read_records(records_path)
    levels = len({(level.scenario, level.name) for level in report.levels})
    if len(records) != levels:
        raise ReportError(
            f"{records_path}: has {len(records)} levels, but the report {path} has {levels}"
        )
    return records


def _check_sizes(file: BinaryIO) -> None:
    """Reject an archive that would need far more memory than its size. Raises ValueError."""
    with ZipFile(file) as archive:
        expanded = 0
        for member in archive.infolist():
            expanded += member.file_size
            with archive.open(member) as content:
                version = np.lib.format.read_magic(content)
                read_header = (
                    np.lib.format.read_array_header_1_0
                    if version == (1, 0)
                    else np.lib.format.read_array_header_2_0
                )
                shape, _, dtype = read_header(content)
                size = content.tell() + dtype.itemsize * math.prod(shape)
            if size != member.file_size or len(shape) != 1:
                raise ValueError(f"array {member.filename} does not have the size of its header")
        compressed = sum(member.compress_size for member in archive.infolist())
    if expanded > max(_MAX_SMALL_EXPANSION_BYTES, _MAX_EXPANSION * compressed):
        raise ValueError(f"it expands to more than {_MAX_EXPANSION} times its size")


def _read_level(file: Any, number: int) -> Records:
    columns = {name: file[f"{number}/{name}"] for name in (*TIMES, *COUNTS)}
    stamps = file[f"{number}/stamps"]
    name = f"{number}/held"
    # Files of older versions have no such array.
    uncertainty = file[name] if name in file.files else np.zeros_like(stamps)
    for name, times in (("stamps", stamps), ("held", uncertainty)):
        if times.dtype != np.float64 or not (np.abs(times) <= _MAX_SECONDS).all():
            raise ValueError(f"{name} must be times of at most {_MAX_SECONDS:g} s")
    errors = file[f"{number}/errors"].tolist()
    if errors[:1] != [""] or not all(isinstance(kind, str) for kind in errors):
        raise ValueError("errors must be names, the first of them empty")
    _check_columns(columns, len(errors))
    if not len(stamps) == len(uncertainty) == columns["chunks"].sum():
        raise ValueError("the number of arrival times does not match the requests")
    return Records(columns, stamps, uncertainty, errors)


def _check_columns(columns: dict[str, Column], error_kinds: int) -> None:
    """Check types, lengths and the ranges of indexes. Raises ValueError."""
    if len({len(column) for column in columns.values()}) > 1:
        raise ValueError("the columns have different lengths")
    for name, column in columns.items():
        if column.dtype.kind not in ("f" if name in TIMES else "biu"):
            raise ValueError(f"{name} has the type {column.dtype}")
        if name in TIMES and (np.abs(column[~np.isnan(column)]) > _MAX_SECONDS).any():
            raise ValueError(f"{name} has a time beyond {_MAX_SECONDS:g} s")
    if not (columns["sent"] >= 0).all():
        raise ValueError("sent has a time that is unknown or before the start")
    limits = {"error": (0, error_kinds - 1), "side": (0, 1), "chunks": (0, 10**8)}
    for name, (low, high) in limits.items():
        column = columns[name]
        if len(column) and not low <= int(column.min()) <= int(column.max()) <= high:
            raise ValueError(f"{name} must be from {low} to {high}")
