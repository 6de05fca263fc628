"""The database of usage in memory."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

from typing_extensions import override

from maxgate.stores.identity import StoreUnavailable
from maxgate.stores.usage import (
    WIDTH_SECONDS,
    Bucket,
    BucketQuery,
    Dimension,
    EntryPosition,
    EntryQuery,
    UsageBatch,
    UsageEntry,
    UsageStore,
    Width,
)
from tests.fakes.usage_lines import read_entries

DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)
ENTRY = UsageEntry(
    spool="spool",
    sequence=0,
    finished_at=0.0,
    request_id="req_0",
    kind="completions",
    route="/v1/chat/completions",
    project_id="red",
    user_id="ann",
    api_key_id="key_1",
    model="small",
    engine="http://engine",
    outcome="ok",
    status=200,
    is_stream=False,
    is_cached=False,
    attempts=1,
    input_tokens=0,
    cached_tokens=0,
    output_tokens=0,
    queue_seconds=0.0,
    first_token_seconds=None,
    total_seconds=1.0,
    engine_seconds=1.0,
    gpu_seconds=0.0,
)


class FakeUsageStore(UsageStore):
    """Holds `entries`, and sums them for each query; `queries` are those of buckets."""

    def __init__(self, *entries: UsageEntry) -> None:
        self.entries = list(entries)
        self.queries: list[BucketQuery] = []
        self.positions: dict[str, int] = {}
        self.is_away = False

    def add(self, at: float, **fields: Any) -> UsageEntry:
        """Add an entry that ended at this time."""
        number = len(self.entries)
        entry = replace(ENTRY, sequence=number, request_id=f"req_{number}", finished_at=at)
        self.entries.append(replace(entry, **fields))
        return self.entries[-1]

    @override
    async def find_position(self, spool: str) -> int:
        self._check()
        return self.positions.get(spool, 0)

    @override
    async def append(self, batch: UsageBatch) -> bool:
        self._check()
        if self.positions.get(batch.spool, 0) != batch.start:
            return False
        self.positions[batch.spool] = batch.end
        self.entries += [e for g in batch.groups for e in read_entries(batch.spool, g)]
        return True

    @override
    async def list_buckets(self, query: BucketQuery) -> Sequence[Bucket]:
        self._check()
        self.queries.append(query)
        seconds = WIDTH_SECONDS[query.width]
        assert query.start % seconds == query.end % seconds == 0
        sums: dict[tuple[Any, ...], Bucket] = {}
        for entry in self.entries:
            if not _matches(entry, query) or (query.kinds and entry.kind not in query.kinds):
                continue
            start = int(entry.finished_at // seconds * seconds)
            names = [getattr(entry, d) if d in query.group_by else None for d in DIMENSIONS]
            key = (start, entry.kind, *names)
            old = sums.get(key, Bucket(start, entry.kind, *names, 0, 0, 0, 0, 0.0))
            sums[key] = replace(
                old,
                requests=old.requests + 1,
                input_tokens=old.input_tokens + entry.input_tokens,
                cached_tokens=old.cached_tokens + entry.cached_tokens,
                output_tokens=old.output_tokens + entry.output_tokens,
                gpu_seconds=old.gpu_seconds + entry.gpu_seconds,
            )
        return [sums[key] for key in sorted(sums, key=lambda k: [k[0], *map(str, k[1:])])]

    @override
    async def list_entries(self, query: EntryQuery) -> Sequence[UsageEntry]:
        self._check()
        found = sorted(filter(lambda e: _matches(e, query), self.entries), key=_locate)
        found.reverse()
        if query.request_id is not None:
            found = [entry for entry in found if entry.request_id == query.request_id]
        if query.after is not None:
            found = [entry for entry in found if _locate(entry) < query.after]
        return found[: query.limit]

    @override
    async def drop_before(self, width: Width | Literal["entries"], end: int) -> int:
        self._check()
        return 0

    @override
    async def aclose(self) -> None:
        """Close nothing."""

    def _check(self) -> None:
        if self.is_away:
            raise StoreUnavailable("the database is away")


def _matches(entry: UsageEntry, query: BucketQuery | EntryQuery) -> bool:
    return query.start <= entry.finished_at < query.end and all(
        not values or getattr(entry, dimension) in values
        for dimension, values in query.filters.items()
    )


def _locate(entry: UsageEntry) -> EntryPosition:
    return EntryPosition(entry.finished_at, entry.spool, entry.sequence)
