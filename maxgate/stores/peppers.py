"""Fingerprints of the peppers that keys of the database are hashed with.

The first key of each pepper writes one, and gateways and commands read them when they start.
"""

from collections.abc import Collection
from pathlib import Path

from sqlalchemy import exists, insert, select

from maxgate.stores.migrate import connect, find_schema, select_schema
from maxgate.stores.settings import DatabaseSettings
from maxgate.stores.tables import KEY_DIGESTS, PEPPERS


def read_fingerprints(settings: DatabaseSettings, state_dir: Path) -> tuple[frozenset[bytes], bool]:
    """Return the fingerprints, and whether the database has keys.

    A database that was upgraded may have keys, but no fingerprints. Raises StoreUnavailable.
    """
    with connect(settings, state_dir) as connection:
        selected = select_schema(connection, find_schema(settings))
        found = frozenset(selected.execute(select(PEPPERS.c.fingerprint)).scalars())
        has_keys = selected.execute(select(exists(select(KEY_DIGESTS.c.digest)))).scalar()
    return found, bool(has_keys)


def add_fingerprints(
    settings: DatabaseSettings, state_dir: Path, fingerprints: Collection[bytes], now: int
) -> None:
    """Add those fingerprints that the database does not have; raises StoreUnavailable."""
    with connect(settings, state_dir, is_writer=True) as connection:
        selected = select_schema(connection, find_schema(settings))
        found = set(selected.execute(select(PEPPERS.c.fingerprint)).scalars())
        for fingerprint in set(fingerprints) - found:
            values = {"fingerprint": fingerprint, "created_at": now}
            selected.execute(insert(PEPPERS).values(values))
