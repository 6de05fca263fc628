"""Usage of an interval with its cost and price, computed when it is read.

A day in which a rate card begins is read by the hour, because cards begin at full hours. So is the
part of a day at the edges of an interval. Everything else is read in the widest buckets.
"""

from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, pairwise
from typing import Final, NamedTuple

from maxgate.clock import Clock
from maxgate.stores.usage import (
    WIDTH_SECONDS,
    Bucket,
    BucketQuery,
    Dimension,
    EntryPosition,
    EntryQuery,
    Kind,
    UsageEntry,
    UsageStore,
    Width,
)
from maxgate.usage.rate_cards import NOTHING, Charge, Quantities, RateCards

_FINER: Final[Mapping[Width, Width]] = {"1d": "1h", "1h": "1m", "1m": "1m"}
"""The width in which edges of an interval are read."""
MAX_PAGE: Final = 1000
"""Lines of the ledger that are read at once."""

Group = tuple[str | None, str | None, str | None, str | None]
"""Project, user, key and model; None for those that are not grouped by."""


@dataclass(frozen=True, slots=True)
class ReportQuery:
    """Usage of `start` <= time < `end`; empty filters allow everything.

    Edges are rounded outwards: to hours for buckets of days, and to minutes for all others.
    """

    width: Width
    start: int
    end: int
    kinds: frozenset[Kind] = frozenset()
    filters: Mapping[Dimension, frozenset[str]] = field(default_factory=dict)
    group_by: frozenset[Dimension] = frozenset()


@dataclass(slots=True)
class ReportRow:
    """Sums of one group in one interval; `unpriced_models` had no rate card."""

    group: Group
    requests: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    gpu_seconds: float = 0.0
    charge: Charge = NOTHING
    unpriced_models: set[str] = field(default_factory=set)

    def add(self, bucket: Bucket, charge: Charge) -> None:
        """Add a bucket of one model."""
        self.requests += bucket.requests
        self.input_tokens += bucket.input_tokens
        self.cached_tokens += bucket.cached_tokens
        self.output_tokens += bucket.output_tokens
        self.gpu_seconds += bucket.gpu_seconds
        self.charge = self.charge.plus(charge)


class ReportBucket(NamedTuple):
    """An interval and its groups, sorted; there may be none."""

    start: int
    end: int
    rows: Sequence[ReportRow]


class _Slice(NamedTuple):
    """A part of the interval that is read in buckets of one width."""

    width: Width
    start: int
    end: int


class UsageReports:
    """Reads usage with its cost and price; all methods raise StoreUnavailable."""

    def __init__(self, store: UsageStore, cards: RateCards, clock: Clock) -> None:
        self.cards = cards
        self.now = clock.wall
        self._store = store

    async def list_buckets(self, query: ReportQuery) -> Sequence[ReportBucket]:
        """Return all buckets of the interval in order, those without usage included."""
        edges = list_edges(query.width, query.start, query.end)
        rows: list[dict[Group, ReportRow]] = [{} for _ in edges[1:]]
        position = 0
        async for bucket in self._read(query, edges):
            while bucket.start >= edges[position + 1]:
                position += 1
            self._add(rows[position], bucket, query.group_by)
        return [
            ReportBucket(start, end, sort_rows(groups.values()))
            for (start, end), groups in zip(pairwise(edges), rows, strict=True)
        ]

    async def sum(self, query: ReportQuery) -> Sequence[ReportRow]:
        """Return the groups of the whole interval, sorted."""
        groups: dict[Group, ReportRow] = {}
        async for bucket in self._read(query, list_edges(query.width, query.start, query.end)):
            self._add(groups, bucket, query.group_by)
        return sort_rows(groups.values())

    async def iterate_entries(self, query: EntryQuery) -> AsyncGenerator[tuple[UsageEntry, Charge]]:
        """Yield up to `limit` lines of the ledger with the cost of each, newest first."""
        remaining = query.limit
        while remaining > 0:
            size = min(remaining, MAX_PAGE)
            page = await self._store.list_entries(replace(query, limit=size))
            for entry in page:
                yield entry, self.charge_entry(entry)
            if len(page) < size:
                return
            last = page[-1]
            query = replace(query, after=EntryPosition(last.finished_at, last.spool, last.sequence))
            remaining -= size

    def charge_entry(self, entry: UsageEntry) -> Charge:
        """Return cost and price of a line of the ledger."""
        used = Quantities(
            entry.input_tokens, entry.cached_tokens, entry.output_tokens, entry.gpu_seconds
        )
        return self.cards.charge(entry.model, used, entry.finished_at)

    async def _read(self, query: ReportQuery, edges: Sequence[int]) -> AsyncGenerator[Bucket]:
        """Yield buckets of one model each, by time, in which no rate card begins."""
        for part in self._slice(query.width, edges):
            found = await self._store.list_buckets(
                BucketQuery(
                    part.width,
                    part.start,
                    part.end,
                    query.kinds,
                    query.filters,
                    query.group_by | {"model"},
                )
            )
            for bucket in found:
                yield bucket

    def _slice(self, width: Width, edges: Sequence[int]) -> Iterator[_Slice]:
        """Yield the parts of the interval, each as long as possible."""
        seconds = WIDTH_SECONDS[width]
        changes = self.cards.list_changes(edges[0], edges[-1]) if edges else ()
        changed = {at - at % seconds for at in changes if at % seconds}
        intervals = (
            _Slice(
                width if end - start == seconds and start not in changed else _FINER[width],
                start,
                end,
            )
            for start, end in pairwise(edges)
        )
        for part_width, parts in groupby(intervals, key=lambda part: part.width):
            joined = list(parts)
            yield _Slice(part_width, joined[0].start, joined[-1].end)

    def _add(
        self, groups: dict[Group, ReportRow], bucket: Bucket, group_by: frozenset[Dimension]
    ) -> None:
        group = (
            bucket.project_id if "project_id" in group_by else None,
            bucket.user_id if "user_id" in group_by else None,
            bucket.api_key_id if "api_key_id" in group_by else None,
            bucket.model if "model" in group_by else None,
        )
        row = groups.get(group)
        if row is None:
            row = groups[group] = ReportRow(group)
        row.add(bucket, self.cards.charge_bucket(bucket))
        if bucket.model and not self.cards.has(bucket.model, bucket.start):
            row.unpriced_models.add(bucket.model)


def list_edges(width: Width, start: int, end: int) -> Sequence[int]:
    """Return the edges of all buckets between two times, which are rounded outwards.

    Buckets begin at multiples of their width, except the first. None if the interval is empty.
    """
    seconds = WIDTH_SECONDS[width]
    start, end = round_outwards(width, start, end)
    if start >= end:
        return ()
    return [start, *range(start - start % seconds + seconds, end, seconds), end]


def round_outwards(width: Width, start: int, end: int) -> tuple[int, int]:
    """Round the edges of an interval to the hours or minutes in which they are read."""
    finer = WIDTH_SECONDS[_FINER[width]]
    return start - start % finer, end + -end % finer


def sort_rows(rows: Iterable[ReportRow]) -> Sequence[ReportRow]:
    """Return rows in the order of their groups."""
    return sorted(rows, key=lambda row: [name or "" for name in row.group])
