"""Rows of the ledger in either database: the fields of a row, and those that buckets sum up."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from sqlalchemy import Table

from maxgate.stores import tables
from maxgate.stores.database import Connection
from maxgate.stores.usage import UsageEntry, Width

SUMS: Final = ("requests", "input_tokens", "cached_tokens", "output_tokens", "gpu_seconds")
"""Columns of a bucket that are added up."""
BUCKETS: Final[Mapping[Width, Table]] = {
    "1m": tables.USAGE_MINUTES,
    "1h": tables.USAGE_HOURS,
    "1d": tables.USAGE_DAYS,
}
MAX_COUNT: Final = 2**40
"""Larger numbers from a faulty engine are cut: their sums would not fit into the database."""

ROW: Final = tuple(field.name for field in fields(UsageEntry)[1:])
"""Fields of a row, in their order."""
DEFAULTS: Final[Mapping[str, Any]] = {"service_tier": "default", "tags": {}, "decisions": []}
"""Values of the last fields, which rows of earlier versions lack."""
TOKENS: Final = ("input_tokens", "cached_tokens", "output_tokens")
"""Fields that are cut to MAX_COUNT."""


class UsageRows(ABC):
    """The rows of a batch."""

    @abstractmethod
    async def insert(self, connection: Connection) -> None:
        """Insert entries, and add them to the buckets.

        Requests that no engine worked on are in no bucket, unless their response came from a cache.
        Raises StoreUnavailable and IntegrityError.
        """
