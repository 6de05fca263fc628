"""Positions of all metrics in a worker's counter file, computed from their declarations.

A file is an array of 8-byte words: a header, then one table for each combination of open labels
(such as route and model). A table is the number of its used rows, then the rows. A row is the
label values as text, then the words of every metric with these labels.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Final

from maxgate.telemetry.histogram import BUCKETS
from maxgate.telemetry.registry import Label, LabelValues, Metric

WORD_BYTES: Final = 8
MAX_ROWS: Final = 64
"""Rows per table. The last one collects all label values that came too late."""
KEY_WORDS: Final = 32
"""Words for the label values of a row, as UTF-8 separated by tabs; longer ones are cut off."""

# Words of the header. The fingerprint is written last, when the rest of the file is valid.
FINGERPRINT, PID, STARTED_AT = range(3)
_HEADER_WORDS: Final = 3


@dataclass(frozen=True, eq=False)
class Table:
    """Metrics with the same open labels; positions and sizes are in words.

    `offsets` are positions inside a row, by the values of the other labels. A histogram takes
    BUCKETS words of counts and one with the sum in seconds, as a double.
    """

    labels: tuple[Label, ...]
    start: int
    row_words: int
    offsets: Mapping[Metric, Mapping[LabelValues, int]]

    @property
    def max_rows(self) -> int:
        """Number of rows that there is room for."""
        return MAX_ROWS if self.labels else 1

    @property
    def end(self) -> int:
        """Position of the first word after the table."""
        return self.find_row(self.max_rows)

    def find_row(self, number: int) -> int:
        """Position of the first word of a row."""
        return self.start + 1 + number * self.row_words


class Layout:
    """Tables for these metrics.

    Files with different fingerprints have different layouts and cannot be added up.
    """

    def __init__(self, metrics: Iterable[Metric]) -> None:
        groups: dict[tuple[Label, ...], list[Metric]] = {}
        for metric in metrics:
            groups.setdefault(metric.open_labels, []).append(metric)
        self.tables: list[Table] = []
        position = _HEADER_WORDS
        for labels, group in groups.items():
            self.tables.append(_build_table(labels, group, position))
            position = self.tables[-1].end
        self.table_of = {metric: table for table in self.tables for metric in table.offsets}
        self.size = position * WORD_BYTES
        self.fingerprint = self._compute_fingerprint()

    def _compute_fingerprint(self) -> int:
        description = [
            (table.start, table.row_words, metric.name, metric.kind, offsets)
            for table in self.tables
            for metric, offsets in table.offsets.items()
        ]
        digest = hashlib.blake2b(repr(description).encode(), digest_size=WORD_BYTES).digest()
        return int.from_bytes(digest, "little", signed=True)


def _build_table(labels: tuple[Label, ...], metrics: Iterable[Metric], start: int) -> Table:
    offsets: dict[Metric, dict[LabelValues, int]] = {}
    position = KEY_WORDS if labels else 0
    for metric in metrics:
        words = BUCKETS + 1 if metric.kind == "histogram" else 1
        offsets[metric] = {
            values: position + number * words
            for number, values in enumerate(product(*metric.closed_values))
        }
        position += len(offsets[metric]) * words
    return Table(labels, start, position, offsets)
