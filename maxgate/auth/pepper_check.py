"""Refuses peppers that no key of the database was hashed with.

Needs SQLAlchemy, which takes long to import: import it only where a database is opened.
"""

from contextlib import suppress
from functools import partial
from pathlib import Path

from maxgate.auth.pepper import fingerprint_pepper, load_peppers, name_source
from maxgate.auth.settings import AuthSettings
from maxgate.clock import Clock, SystemClock
from maxgate.errors import ConfigurationError
from maxgate.stores.identity import IdentityStore, StoreUnavailable
from maxgate.stores.identity_store import open_identity_store
from maxgate.stores.peppers import add_fingerprints, read_fingerprints
from maxgate.stores.settings import DatabaseSettings


class WrongPepper(ConfigurationError):
    """All keys of the database would be refused, because they were hashed with another pepper."""


def open_checked_store(
    auth: AuthSettings, database: DatabaseSettings, state_dir: Path, *, clock: Clock | None = None
) -> IdentityStore:
    """Open the store of a gateway once its schema and the peppers are known to be right.

    Raises the errors of open_identity_store and of check_peppers; if PostgreSQL is unavailable,
    neither is checked.
    """
    check = partial(check_peppers, auth, database, state_dir, remember=True)
    return open_identity_store(database, state_dir, clock=clock, check=check)


def check_peppers(
    auth: AuthSettings, database: DatabaseSettings, state_dir: Path, *, remember: bool = False
) -> None:
    """Raise WrongPepper if no key of the database was hashed with one of the peppers.

    `remember`: take the peppers for the right ones if the database has keys of an earlier version
    of maxgate, and no fingerprint. Raises StoreUnavailable, and ConfigurationError for peppers that
    cannot be read.
    """
    stored, has_keys = read_fingerprints(database, state_dir)
    mine = [fingerprint_pepper(pepper) for pepper in load_peppers(auth, state_dir, create=False)]
    if not stored:
        if remember and has_keys and mine:
            with suppress(StoreUnavailable):  # another worker does the same
                _add(database, state_dir, mine)
        return
    if stored.isdisjoint(mine):
        source = name_source(auth, state_dir)
        problem = "the pepper that the keys in the database were hashed with is missing"
        if mine:
            problem = "no key in the database was hashed with this pepper"
        raise WrongPepper(
            f"{source}: {problem}, so all of them would be refused; restore state_dir/pepper, or "
            "set auth.pepper to the right one. If it is lost, run `maxgate db accept-pepper`, and "
            "create all keys anew"
        )


def accept_peppers(auth: AuthSettings, database: DatabaseSettings, state_dir: Path) -> None:
    """Take the peppers for right ones from now on; one is generated if there is none.

    Raises StoreUnavailable, and ConfigurationError for peppers that cannot be read.
    """
    mine = [fingerprint_pepper(pepper) for pepper in load_peppers(auth, state_dir, create=True)]
    _add(database, state_dir, mine)


def _add(database: DatabaseSettings, state_dir: Path, fingerprints: list[bytes]) -> None:
    add_fingerprints(database, state_dir, fingerprints, int(SystemClock().wall()))
