"""The queue of one model: classes, fairness between tenants, and order inside a tenant.

Tenants share an engine by tokens. Each has a counter of the weighted tokens that it was served
(the virtual token counter of Sheng et al., "Fairness in Serving Large Language Models", 2024): the
waiting tenant with the lowest one is next. A tenant that was idle starts at the counter of those
that are waiting, so that nobody saves up a claim.
"""

import asyncio
import heapq
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Final

CLASSES: Final = ("priority", "default", "flex")
"""Service classes; a class is served before those after it."""
# One of this many goes to the lowest waiting class, so that none starves.
_FULL_TURN: Final = 10
OTHERS: Final = "others"
"""The tenant of those beyond `max_tenants`."""


class Waiter:
    """A request that waits.

    `rank` is the index of its class; inside a tenant, a lower `priority` is earlier. `size` is in
    bytes, `expires_at` in seconds of a monotonic clock. `turn` is done when it gets a slot, or
    fails with the reason why it gets none.
    """

    __slots__ = (
        "expires_at",
        "is_queued",
        "priority",
        "queued_at",
        "rank",
        "size",
        "tenant",
        "turn",
    )

    def __init__(
        self,
        tenant: str,
        rank: int,
        priority: int,
        *,
        size: int,
        queued_at: float,
        expires_at: float,
        turn: "asyncio.Future[None]",
    ) -> None:
        self.tenant = tenant
        self.rank = rank
        self.priority = priority
        self.size = size
        self.queued_at = queued_at
        self.expires_at = expires_at
        self.turn = turn
        self.is_queued = False


class Account:
    """A tenant: its counter of weighted tokens, and its requests that run and wait."""

    __slots__ = ("counter", "running", "waiting")

    def __init__(self) -> None:
        self.counter = 0.0
        self.running = 0
        self.waiting = 0


class Accounts:
    """The tenants of one model, of which at most `max_tenants` are told apart."""

    def __init__(self, max_tenants: int) -> None:
        self._max_tenants = max_tenants
        self._accounts: dict[str, Account] = {}
        self._floor = 0.0

    def __iter__(self) -> Iterator[tuple[str, Account]]:
        return iter(self._accounts.items())

    def __len__(self) -> int:
        return len(self._accounts)

    def resolve(self, tenant: str) -> str:
        """Return the name under which the tenant is counted: its own, or OTHERS."""
        if tenant in self._accounts:
            return tenant
        if len(self._accounts) >= self._max_tenants:
            self.drop_idle()
            if len(self._accounts) >= self._max_tenants:
                tenant = OTHERS
        self._accounts.setdefault(tenant, Account())
        return tenant

    def find(self, tenant: str) -> Account:
        """Return the account of a resolved tenant."""
        account = self._accounts.get(tenant)
        if account is None:
            account = self._accounts[tenant] = Account()
            account.counter = self._floor
        return account

    def activate(self, account: Account) -> None:
        """Lift the counter of a tenant that had no requests to that of the waiting ones."""
        waiting = [other.counter for other in self._accounts.values() if other.waiting]
        account.counter = max(account.counter, min(waiting, default=self._floor))

    def note_served(self, account: Account) -> None:
        """Note whose turn it was: idle tenants start at its counter."""
        self._floor = max(self._floor, account.counter)

    def drop_idle(self) -> None:
        """Forget tenants without requests."""
        self._accounts = {
            name: account
            for name, account in self._accounts.items()
            if account.running or account.waiting
        }


class FairQueue:
    """Waiting requests. `size` is their total in bytes."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._tenants: Sequence[dict[str, list[tuple[int, int, Waiter]]]] = [{} for _ in CLASSES]
        self._order = count()
        self._removed: set[Waiter] = set()
        self._turns = 0
        self._counts = [0] * len(CLASSES)
        self._total = 0
        self.size = 0

    def __len__(self) -> int:
        return self._total

    def count(self, rank: int) -> int:
        """Return the number of waiting requests of a class."""
        return self._counts[rank]

    def count_ahead(self, waiter: Waiter) -> int:
        """Estimate how many requests are served before a new one.

        Those are its tenant's own, as often as there are tenants that wait, but no more than wait
        in its class and those before it.
        """
        own = self._accounts.find(waiter.tenant).waiting
        tenants = sum([account.waiting > 0 for _, account in self._accounts]) + (own == 0)
        return min(sum(self._counts[: waiter.rank + 1]), own * tenants + tenants - 1)

    def push(self, waiter: Waiter) -> None:
        """Add a request."""
        account = self._accounts.find(waiter.tenant)
        if not account.waiting and not account.running:
            self._accounts.activate(account)
        account.waiting += 1
        waiter.is_queued = True
        heap = self._tenants[waiter.rank].setdefault(waiter.tenant, [])
        heapq.heappush(heap, (waiter.priority, next(self._order), waiter))
        self._counts[waiter.rank] += 1
        self._total += 1
        self.size += waiter.size

    def remove(self, waiter: Waiter) -> None:
        """Remove a request that no longer waits."""
        self._removed.add(waiter)
        self._count_out(waiter)

    def pop(self, ranks: int = len(CLASSES)) -> Waiter | None:
        """Take the request whose turn it is, of the first `ranks` classes."""
        self._turns += 1
        order = range(ranks)
        for rank in reversed(order) if self._turns % _FULL_TURN == 0 else order:
            if self._counts[rank]:
                return self._pop(rank)
        return None

    def find_newest(self, tenant: str) -> Waiter | None:
        """Return the last request in the order of a tenant, of its lowest class."""
        for heaps in reversed(self._tenants):
            waiting = [item for item in heaps.get(tenant, ()) if item[2] not in self._removed]
            if waiting:
                return max(waiting)[2]
        return None

    def _pop(self, rank: int) -> Waiter:
        heaps = self._tenants[rank]
        while True:
            tenant = min(heaps, key=lambda name: self._accounts.find(name).counter)
            heap = heaps[tenant]
            _, _, waiter = heapq.heappop(heap)
            if not heap:
                del heaps[tenant]
            if waiter in self._removed:
                self._removed.remove(waiter)
                continue
            self._count_out(waiter)
            self._accounts.note_served(self._accounts.find(waiter.tenant))
            return waiter

    def _count_out(self, waiter: Waiter) -> None:
        self._accounts.find(waiter.tenant).waiting -= 1
        waiter.is_queued = False
        self._counts[waiter.rank] -= 1
        self._total -= 1
        self.size -= waiter.size
