"""Read a request trace from CSV or JSONL into compact arrays."""

import csv
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from maxgate.errors import ConfigurationError
from maxgate.loadtest.messages import TimeUnit, TraceOptions
from maxgate.loadtest.scenarios.datasets import Notes, describe_notes, parse_conversation
from maxgate.loadtest.scenarios.source_file import SourceFile
from maxgate.loadtest.scenarios.trace_columns import (
    FORMATS,
    SECONDS_PER_UNIT,
    Columns,
    TimeParser,
    choose_unit,
    find_columns,
    is_trace,
    parse_tokens,
)
from maxgate.results.quoting import shorten, show_value

Row = tuple[str, Mapping[str, Any], bytes]
"""Start of an error message, values by column, and the bytes of a JSON record."""

_INT64_LIMIT: Final = 2**63


@dataclass
class TraceRows:
    """The usable rows of a trace in the order of the file; their times only until `finish`."""

    columns: Columns
    json: bool
    times: "array[float]" = field(default_factory=lambda: array("d"))
    inputs: "array[int]" = field(default_factory=lambda: array("i"))
    outputs: "array[int]" = field(default_factory=lambda: array("i"))
    blocks: "array[int]" = field(default_factory=lambda: array("q"))
    """Hash IDs of all rows; `block_ends` has the end of each row's, and is empty without any."""
    block_ends: "array[int]" = field(default_factory=lambda: array("q"))
    bodies: list[bytes] = field(default_factory=list)
    """JSON records with messages or a prompt; empty if the trace has only lengths."""
    read: int = 0
    skipped: "Counter[str]" = field(default_factory=Counter)
    notes: Notes = field(default_factory=Notes)
    unit: TimeUnit = "s"
    unsorted: int = 0

    def pad_block_ends(self, count: int) -> None:
        """Extend `block_ends` to this many rows, which have no blocks."""
        missing = count - len(self.block_ends)
        self.block_ends.extend(array("q", [len(self.blocks)]) * missing)

    def list_blocks(self, row: int) -> Sequence[int]:
        """The hash IDs of this row."""
        if not self.blocks:
            return ()
        return self.blocks[self.block_ends[row - 1] if row else 0 : self.block_ends[row]]

    def finish(self, parser: TimeParser) -> tuple[NDArray[np.integer[Any]], NDArray[np.float64]]:
        """The order of time, and the times in this order in seconds from the first.

        Raises ConfigurationError if a time is out of range.
        """
        times = np.frombuffer(self.times, np.float64)
        self.unit = "s"
        if not parser.is_iso:
            allowed = self.json and parser.whole
            self.unit = self.columns.unit or choose_unit(
                float(times.min()), float(times.max()), milliseconds_allowed=allowed
            )
            parser.check_range(self.unit)
        self.unsorted = int(np.count_nonzero(np.diff(times) < 0))
        order = np.argsort(times, kind="stable").astype(np.int32)
        self.times = array("d")
        if self.blocks:
            self.pad_block_ends(len(self.inputs))
        return order, (times[order] - times.min()) * SECONDS_PER_UNIT[self.unit]


def read_rows(
    source: SourceFile, options: TraceOptions
) -> tuple[TraceRows, NDArray[np.integer[Any]], NDArray[np.float64]] | None:
    """All rows, their order of time, and their ordered times; None if the file is no trace.

    Raises ConfigurationError with the file, line, column and value of the first invalid row.
    """
    json = source.read_start().startswith((b"{", b"["))
    rows = _read_json_rows(source) if json else _read_table(source)
    found: TraceRows | None = None
    reader = None
    for where, values, text in rows:
        if reader is None:
            if json and not is_trace(values, options):
                return None
            found = TraceRows(find_columns(list(values), options, where), json)
            reader = _RowReader(found)
        reader.add(where, values, text)
    if found is None or reader is None:
        raise ConfigurationError(f"{source.name}: the file contains no request")
    if not found.times:
        reasons = "; ".join(describe_notes(found.skipped + found.notes))
        raise ConfigurationError(f"{source.name}: no row of {found.read:,} can be sent: {reasons}")
    return found, *found.finish(reader.times)


class _RowReader:
    """Validates rows and appends them to the arrays."""

    def __init__(self, rows: TraceRows) -> None:
        self._rows = rows
        self.times = TimeParser(rows.columns.time)
        self._names: dict[str, int] = {}

    def add(self, where: str, values: Mapping[str, Any], text: bytes) -> None:
        """Append one row, or count it as skipped. Raises ConfigurationError."""
        rows, columns = self._rows, self._rows.columns
        rows.read += 1
        if columns.time not in values:
            raise ConfigurationError(f"{where}: no {columns.time}: every row needs a time")
        time = self.times.parse(values[columns.time], where)
        if columns.input is not None and columns.input in values:
            if rows.bodies:
                raise ConfigurationError(f"{where}: only lengths, after rows with messages")
            self._add_lengths(where, values, columns.input, time)
        elif values.keys() & {"messages", "prompt"} and not rows.inputs:
            if parse_conversation(dict(values), where, rows.notes):
                rows.times.append(time)
                rows.bodies.append(text)
            else:
                rows.notes["records without a user message, skipped"] += 1
        else:
            raise ConfigurationError(
                f"{where}: expected messages, prompt or a number of input tokens such as "
                f"input_length; found {', '.join(shorten(str(key)) for key in list(values)[:12])}"
            )

    def _add_lengths(
        self, where: str, values: Mapping[str, Any], input_column: str, time: float
    ) -> None:
        rows, columns = self._rows, self._rows.columns
        tokens = parse_tokens(values[input_column], input_column, where)
        output = -1
        if columns.output is not None and values.get(columns.output) is not None:
            output = parse_tokens(values[columns.output], columns.output, where)
        if not tokens or not output:
            column = columns.output if tokens else input_column
            failed = " (failed requests)" if columns.format is FORMATS["burstgpt"] else ""
            rows.skipped[f"rows skipped, {column} is 0{failed}"] += 1
            return
        rows.times.append(time)
        rows.inputs.append(tokens)
        rows.outputs.append(output)
        if hash_ids := values.get("hash_ids"):
            rows.pad_block_ends(len(rows.inputs) - 1)
            self._add_blocks(where, hash_ids, -(-tokens // columns.format.block_tokens))
            rows.block_ends.append(len(rows.blocks))

    def _add_blocks(self, where: str, hash_ids: object, needed: int) -> None:
        if not isinstance(hash_ids, list):
            raise ConfigurationError(
                f"{where}: hash_ids: expected a list of numbers or strings, "
                f"got {show_value(hash_ids)}"
            )
        if len(hash_ids) > needed:
            self._rows.notes["rows with more hash_ids than blocks of the prompt"] += 1
        for one in hash_ids[:needed]:
            if isinstance(one, int) and -_INT64_LIMIT <= one < _INT64_LIMIT:
                self._rows.blocks.append(one)
            elif isinstance(one, str | int):
                # The number of a name depends only on the file, so it is the same everywhere.
                self._rows.blocks.append(-self._names.setdefault(str(one), len(self._names) + 2))
            else:
                raise ConfigurationError(
                    f"{where}: hash_ids: expected numbers or strings, got {show_value(one)}"
                )


def _read_json_rows(source: SourceFile) -> Iterator[Row]:
    for record in source.read_records():
        value = record.value
        if isinstance(value, list):
            value = {"messages": value}
        if not isinstance(value, dict):
            raise ConfigurationError(f"{record.where}: expected an object or a list of messages")
        yield record.where, value, record.text


def _read_table(source: SourceFile) -> Iterator[Row]:
    """The rows below the header of a table separated by commas, semicolons or tabs."""
    lines = _DecodedLines(source)
    first = next(lines, "")
    delimiter = max(",;\t", key=first.count)
    header = _read_cells(csv.reader([first], delimiter=delimiter), lines)
    names = [name.strip() for name in header or ()]
    _check_header(names, source)
    reader = csv.reader(lines, delimiter=delimiter)
    while (cells := _read_cells(reader, lines)) is not None:
        where = f"{source.name}:{lines.number}"
        if len(cells) != len(names):
            raise ConfigurationError(
                f"{where}: {len(cells)} values, but the header has {len(names)} columns; the line "
                "may be truncated"
            )
        yield where, dict(zip(names, cells, strict=True)), b""


def _read_cells(reader: Iterator[list[str]], lines: "_DecodedLines") -> list[str] | None:
    """The next row; None at the end. Raises ConfigurationError."""
    try:
        return next(reader, None)
    except csv.Error as error:
        raise ConfigurationError(f"{lines.name}:{lines.number}: invalid CSV: {error}") from error


def _check_header(names: Sequence[str], source: SourceFile) -> None:
    """Reject a first line that is no header, such as one of numbers."""
    if not names or names == [""]:
        raise ConfigurationError(f"{source.name}: the file contains no request")
    shown = show_value(",".join(names))
    if len(names) < 2 or not all(names) or len(set(names)) < len(names):
        raise ConfigurationError(
            f"{source.name}:1: neither JSON nor the header of a CSV table, with distinct names of "
            f"at least two columns: {shown}"
        )
    if any(name.replace(".", "").isdigit() for name in names):
        raise ConfigurationError(
            f"{source.name}:1: {shown} has numbers; the first line must have the names of the "
            "columns, such as timestamp,input_length,output_length"
        )


class _DecodedLines(Iterator[str]):
    """The lines of a file as text, with the number of the current one."""

    def __init__(self, source: SourceFile) -> None:
        self.name, self._lines = source.name, source.read_lines()
        self.number = 1

    @override
    def __next__(self) -> str:
        self.number, line = next(self._lines)
        if b"\r" in line:
            raise ConfigurationError(
                f"{self.name}:{self.number}: a carriage return inside a line: lines must end with "
                "LF or CRLF"
            )
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            raise ConfigurationError(
                f"{self.name}:{self.number}: not UTF-8 ({error.reason})"
            ) from error
