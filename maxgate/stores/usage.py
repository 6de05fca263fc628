"""The ledger of requests and its roll-ups, and the interface to them.

All times are in Unix seconds. Everything carries its project, and every method that reads for a
project takes it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias

from maxgate.errors import MaxgateError

Width: TypeAlias = Literal["1m", "1h", "1d"]
"""Widths of buckets, named as in OpenAI's usage API; days are UTC days."""
WIDTH_SECONDS: Final[Mapping[Width, int]] = {"1m": 60, "1h": 3600, "1d": 86_400}

Kind: TypeAlias = Literal["completions", "embeddings", "moderations"]
"""Kinds of usage, named as in OpenAI's usage API."""
Dimension: TypeAlias = Literal["project_id", "user_id", "api_key_id", "model"]
"""Columns for grouping and filtering usage."""


@dataclass(slots=True)  # not frozen, because creating one would take three times as long
class UsageEntry:
    """One line of the ledger: a client request, with all of its engine calls.

    `spool` and `sequence` identify it; both are made by the gateway, unlike `request_id`. Durations
    are in seconds, None where there was none. `engine_seconds` is the time that its engine calls
    held slots, and `gpu_seconds` its share of the engines. `outcome` is that of the request record.
    `tags` come from the request's `metadata`; `decisions` name what guardrails did, without text.
    """

    spool: str
    sequence: int
    finished_at: float
    request_id: str
    kind: Kind
    route: str
    project_id: str
    user_id: str
    api_key_id: str
    model: str
    engine: str | None
    outcome: str
    status: int
    is_stream: bool
    is_cached: bool
    attempts: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    queue_seconds: float
    first_token_seconds: float | None
    total_seconds: float
    engine_seconds: float
    gpu_seconds: float
    service_tier: str = "default"
    tags: Mapping[str, str] = field(default_factory=dict)
    decisions: tuple[str, ...] = ()


class EntryGroup(NamedTuple):
    """Entries of a spool, and the first and the last day on which they ended, in days since 1970.

    `rows` is a JSON array of their rows: arrays with the values of a UsageEntry in the order of its
    fields, without `spool`. Fields with a default can be missing, and unknown ones can follow. The
    days are adjacent, unless a clock was changed.
    """

    entries: int
    first_day: int
    last_day: int
    rows: bytes


@dataclass(frozen=True, slots=True)
class UsageBatch:
    """Groups of one spool, from `start` to `end`, which are positions in its stream of bytes.

    A position within a group says how many of its entries are before it.
    """

    spool: str
    start: int
    end: int
    groups: Sequence[EntryGroup]


@dataclass(frozen=True, slots=True)
class Bucket:
    """Sums of the requests of one kind, project, user, key and model that ended in an interval.

    In a query, a dimension that is not grouped by is None.
    """

    start: int
    kind: Kind
    project_id: str | None
    user_id: str | None
    api_key_id: str | None
    model: str | None
    requests: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    gpu_seconds: float


@dataclass(frozen=True, slots=True)
class BucketQuery:
    """Buckets of `start` <= time < `end`; empty filters allow everything."""

    width: Width
    start: int
    end: int
    kinds: frozenset[Kind] = frozenset()
    filters: Mapping[Dimension, frozenset[str]] = field(default_factory=dict)
    group_by: frozenset[Dimension] = frozenset()


class EntryPosition(NamedTuple):
    """Position of an entry in a list that is ordered from the newest."""

    finished_at: float
    spool: str
    sequence: int


@dataclass(frozen=True, slots=True)
class EntryQuery:
    """Entries of `start` <= time < `end`, newest first, below `after`."""

    start: float
    end: float
    filters: Mapping[Dimension, frozenset[str]] = field(default_factory=dict)
    request_id: str | None = None
    after: EntryPosition | None = None
    limit: int = 100


class UsageRejected(MaxgateError):
    """The database cannot store the values of a batch; nothing was changed."""


class UsageStore(Protocol):
    """The database of usage. All methods raise StoreUnavailable while it cannot be reached."""

    async def find_position(self, spool: str) -> int:
        """Return the byte up to which a spool is stored, 0 for a new one."""
        ...

    async def append(self, batch: UsageBatch) -> bool:
        """Store entries, roll-ups and the new position in one transaction.

        Returns False and stores nothing if the position of the spool is not the start of the batch.
        Raises UsageRejected, which a part of the batch may not do.
        """
        ...

    async def list_buckets(self, query: BucketQuery) -> Sequence[Bucket]:
        """Return the sums of all buckets that are not empty, by time, then by dimensions."""
        ...

    async def list_entries(self, query: EntryQuery) -> Sequence[UsageEntry]:
        """Return entries, newest first."""
        ...

    async def drop_before(self, width: Width | Literal["entries"], end: int) -> int:
        """Delete entries or buckets of whole days that ended before; return the days deleted."""
        ...

    async def aclose(self) -> None:
        """Close all connections; never raises."""
        ...
