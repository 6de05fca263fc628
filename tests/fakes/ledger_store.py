"""A database of usage in memory, which can be away or lose replies."""

from collections.abc import Sequence
from math import inf
from typing import Literal

from typing_extensions import override

from maxgate.stores.identity import StoreUnavailable
from maxgate.stores.usage import (
    Bucket,
    BucketQuery,
    EntryQuery,
    UsageBatch,
    UsageEntry,
    UsageRejected,
    UsageStore,
    Width,
)
from tests.fakes.usage_lines import read_entries


class FakeLedgerStore(UsageStore):
    """Has `entries` in the order of their arrival; `dropped` are the calls of `drop_before`.

    It rejects entries whose sequence is in `rejected`, and is away after `calls_left` calls.
    """

    def __init__(self) -> None:
        self.entries: list[UsageEntry] = []
        self.positions: dict[str, int] = {}
        self.dropped: list[tuple[str, int]] = []
        self.rejected: set[int] = set()
        self.is_away = False
        self.loses_reply = False
        self.calls = 0
        self.calls_left = inf

    @override
    async def find_position(self, spool: str) -> int:
        self._check()
        return self.positions.get(spool, 0)

    @override
    async def append(self, batch: UsageBatch) -> bool:
        self._check()
        if self.positions.get(batch.spool, 0) != batch.start:
            return False
        entries = [e for group in batch.groups for e in read_entries(batch.spool, group)]
        if any(entry.sequence in self.rejected for entry in entries):
            raise UsageRejected("out of range")
        self.positions[batch.spool] = batch.end
        self.entries += entries
        if self.loses_reply:
            self.loses_reply = False
            raise StoreUnavailable("connection reset")
        return True

    @override
    async def list_buckets(self, query: BucketQuery) -> Sequence[Bucket]:
        raise NotImplementedError

    @override
    async def list_entries(self, query: EntryQuery) -> Sequence[UsageEntry]:
        raise NotImplementedError

    @override
    async def drop_before(self, width: Width | Literal["entries"], end: int) -> int:
        self._check()
        self.dropped.append((width, end))
        return 0

    @override
    async def aclose(self) -> None:
        pass

    def _check(self) -> None:
        self.calls += 1
        if self.is_away or not self.calls_left:
            raise StoreUnavailable("connection refused")
        self.calls_left -= 1
