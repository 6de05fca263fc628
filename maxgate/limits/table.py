"""The table of counters that processes share, and what a process exchanges with it.

A counter is what a limit counts in one window. Each process is a holder. It reports the amount that
it has used since the window began, and the amount that it holds for requests in progress and as a
block for the next ones. What a holder has used stays; what it holds is free again when its lease
ends, because it has been killed.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol
from uuid import uuid4

from maxgate.errors import MaxgateError

LEASE_SECONDS: Final = 10.0
"""Time after its last exchange for which a process keeps what it holds."""
FORGET_SECONDS: Final = 3600.0
"""Time after the end of a lease after which its holder is forgotten."""
GRACE_SECONDS: Final = 60.0
"""Time after the end of a window after which its counters are forgotten."""
MAX_AMOUNT: Final = 10**15
"""Maximum of a limit; sums stay below 2**53, so that Lua counts exactly."""


class CountersUnavailable(MaxgateError):
    """The table cannot be reached; processes count by themselves."""


class Report(NamedTuple):
    """The state of one counter in the process that reports.

    `key` identifies counter and window, which ends at `ends_at`, in seconds since 1970. `wish` is
    the block that it would like to hold in addition. Takes of a counter that `charges` are used at
    once; those of others are held. A counter that `rebuilds` is not created without its `base`: the
    amount that was used before.
    """

    key: str
    ends_at: float
    limit: int
    used: int
    held: int
    wish: int
    charges: bool
    rebuilds: bool = False
    base: int | None = None


Take = Sequence[tuple[int, int]]
"""Amounts that one request takes, all or none: index of the report, and amount."""


class State(NamedTuple):
    """A counter after an exchange: what this holder holds, and others have used and hold."""

    held: int
    others: int


class Reply(NamedTuple):
    """The result of an exchange.

    `refused` has for each take the index of the report whose limit it exceeds, or None. `birth`
    identifies the table: one that has lost its data has another. Nothing has changed if that is not
    the one that the holder knows, or if counters are `missing`: they need a base.
    """

    states: Sequence[State]
    refused: Sequence[int | None]
    holders: int
    birth: str
    missing: Sequence[int] = ()


class CounterTable(Protocol):
    """Counters of all processes.

    `is_shared` is false if no other process uses it. `is_local` tables can be used without
    waiting, through `exchange_now`.
    """

    is_shared: bool
    is_local: bool

    async def exchange(
        self, holder: str, reports: Sequence[Report], takes: Sequence[Take], birth: str = ""
    ) -> Reply:
        """Report counters, take amounts in the order given, and get blocks of the rest.

        A take that exceeds a limit takes nothing; nor does one of zero if a limit is exhausted.
        The holder's lease is renewed. `birth` is that of the table that it knows. Raises
        CountersUnavailable.
        """
        ...

    def exchange_now(
        self, holder: str, reports: Sequence[Report], takes: Sequence[Take], birth: str = ""
    ) -> Reply:
        """Do the same without waiting; for local tables only."""
        ...

    async def leave(self, holder: str) -> None:
        """End the lease of a process that stops, and close the table; never raises."""
        ...


def create_holder() -> str:
    """Return a unique id for a process."""
    return uuid4().hex


def choose_takes(
    reports: Sequence[Report], totals: list[int], takes: Sequence[Take]
) -> tuple[list[int | None], list[int]]:
    """Return what refuses each take, and the amount that was taken of each counter.

    `totals` are what all holders have used and hold; accepted takes are added.
    """
    refused: list[int | None] = []
    taken = [0] * len(reports)
    for take in takes:
        cause = None
        for index, amount in take:
            limit = reports[index].limit
            if totals[index] + amount > limit or totals[index] >= limit:
                cause = index
                break
        refused.append(cause)
        if cause is None:
            for index, amount in take:
                totals[index] += amount
                taken[index] += amount
    return refused, taken
