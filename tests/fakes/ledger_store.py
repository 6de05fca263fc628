"""A database of usage in memory, which can be away or lose replies."""

from collections.abc import Sequence
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
from tests.fakes.usage_lines import read_entry


class FakeLedgerStore(UsageStore):
    """Has `entries` in the order of their arrival; `dropped` are the calls of `drop_before`.

    It rejects the lines of `rejected`.
    """

    def __init__(self) -> None:
        self.entries: list[UsageEntry] = []
        self.positions: dict[str, int] = {}
        self.dropped: list[tuple[str, int]] = []
        self.rejected: set[bytes] = set()
        self.is_away = False
        self.loses_reply = False
        self.calls = 0

    @override
    async def find_position(self, spool: str) -> int:
        self._check()
        return self.positions.get(spool, 0)

    @override
    async def append(self, batch: UsageBatch) -> bool:
        self._check()
        if self.positions.get(batch.spool, 0) != batch.start:
            return False
        if any(line in self.rejected for line in batch.lines):
            raise UsageRejected("out of range")
        self.positions[batch.spool] = batch.end
        self.entries += [read_entry(batch.spool, line) for line in batch.lines]
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
        if self.is_away:
            raise StoreUnavailable("connection refused")
