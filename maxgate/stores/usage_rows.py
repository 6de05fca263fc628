"""Rows of the ledger in either database: the fields of a line, and sums of them in buckets."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any, Final, TypeAlias

from sqlalchemy import Table

from maxgate.stores import tables
from maxgate.stores.database import Connection
from maxgate.stores.usage import WIDTH_SECONDS, Bucket, UsageEntry, Width

SUMS: Final = ("requests", "input_tokens", "cached_tokens", "output_tokens", "gpu_seconds")
"""Columns of a bucket that are added up."""
BUCKETS: Final[Mapping[Width, Table]] = {
    "1m": tables.USAGE_MINUTES,
    "1h": tables.USAGE_HOURS,
    "1d": tables.USAGE_DAYS,
}
MAX_COUNT: Final = 2**40
"""Larger numbers from a faulty engine are cut: their sums would not fit into the database."""

LINE: Final = tuple(field.name for field in fields(UsageEntry)[1:])
"""Fields of a line, in their order."""
DEFAULTS: Final[Mapping[str, Any]] = {"service_tier": "default", "tags": {}, "decisions": []}
"""Values of the last fields, which lines of earlier versions lack."""
TOKENS: Final = ("input_tokens", "cached_tokens", "output_tokens")
"""Fields that are cut to MAX_COUNT."""
BUCKET: Final = tuple(field.name for field in fields(Bucket))

BucketKey: TypeAlias = tuple[str, int, str, str, str, str]
"""Project, number of the interval since 1970, kind, user, key and model."""
BucketSums: TypeAlias = Mapping[BucketKey, Sequence[Any]]
"""The values of SUMS."""
_list_values = attrgetter(*BUCKET)  # `astuple` copies each value


class UsageRows(ABC):
    """The rows of a batch, and the days of their entries since 1970."""

    days: set[int]

    @abstractmethod
    async def insert(self, connection: Connection) -> None:
        """Insert entries, and add them to the buckets.

        Requests that no engine worked on are in no bucket, unless their response came from a cache.
        Raises StoreUnavailable and IntegrityError.
        """


def list_buckets(minutes: BucketSums) -> Iterator[tuple[Table, list[tuple[Any, ...]]]]:
    """Yield the rows to add to each table, in the order of its key.

    Two gateways that add to the same buckets lock them in this order.
    """
    narrow = _sort(minutes, WIDTH_SECONDS["1m"])
    for width, table in BUCKETS.items():
        yield table, [_list_values(bucket) for bucket in widen(narrow, WIDTH_SECONDS[width])]


def widen(buckets: Sequence[Bucket], seconds: int) -> list[Bucket]:
    """Sum buckets of minutes to wider ones."""
    sums: dict[BucketKey, list[Any]] = {}
    for bucket in buckets:
        start, kind, project, user, key, model, *values = _list_values(bucket)
        place = (project, start // seconds, kind, user, key, model)
        found = sums.setdefault(place, [0, 0, 0, 0, 0.0])
        for at, value in enumerate(values):
            found[at] += value
    return _sort(sums, seconds)


def _sort(sums: BucketSums, seconds: int) -> list[Bucket]:
    return [
        Bucket(number * seconds, kind, project, user, key, model, *values)  # type: ignore[arg-type]
        for (project, number, kind, user, key, model), values in sorted(sums.items())
    ]
