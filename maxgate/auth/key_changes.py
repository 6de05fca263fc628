"""Reports changes of keys between gateways, so that a revoked key is refused by all of them."""

from collections.abc import Collection
from typing import Final, NamedTuple, Protocol

from typing_extensions import override

POLL_INTERVAL: Final = 2.0
"""Seconds between two polls for changes."""


class Changes(NamedTuple):
    """Ids of changed keys, projects, users and service accounts.

    If not `is_complete`, some changes before the poll may be missing.
    """

    ids: Collection[str]
    is_complete: bool


class KeyChangePublisher(Protocol):
    """Reports changes of keys to those that keep keys in memory."""

    async def publish(self, ids: Collection[str]) -> None:
        """Report changes that were committed; never raises.

        What cannot be sent is sent later.
        """
        ...


class KeyChanges(KeyChangePublisher, Protocol):
    """The changes that gateways with the same database report to each other.

    Reports may arrive several times, and also at their sender.
    """

    async def poll(self) -> Changes:
        """Return the changes since the last poll; never raises."""
        ...

    async def aclose(self) -> None:
        """Close all connections; never raises."""
        ...


class KeyChangeFollower(Protocol):
    """Keeps something of the same database in memory, and forgets what has changed."""

    def forget(self, ids: Collection[str]) -> None:
        """Read what has one of these ids again before its next use."""
        ...

    def refresh(self) -> None:
        """Read everything again before its next use, if the database is there."""
        ...

    async def aclose(self) -> None:
        """End all look-ups."""
        ...


class NoKeyChanges(KeyChanges):
    """Gateways that share nothing but the database: each reads keys again after a while."""

    @override
    async def publish(self, ids: Collection[str]) -> None:
        pass

    @override
    async def poll(self) -> Changes:
        return Changes((), is_complete=True)

    @override
    async def aclose(self) -> None:
        pass
