"""The queue of one model: classes, fairness between tenants, and order inside a tenant.

Tenants share an engine by tokens. Each has a counter of the weighted tokens that it was served
(the virtual token counter of Sheng et al., "Fairness in Serving Large Language Models", 2024): the
waiting tenant with the lowest one is next. A tenant that was idle starts at the counter of those
that are waiting, so that nobody saves up a claim.
"""

import asyncio
import heapq
from collections.abc import Sequence
from itertools import count
from typing import Final

CLASSES: Final = ("priority", "default", "flex")
"""Service classes; a class is served before those after it."""
# One of this many goes to the lowest waiting class, so that none starves.
_FULL_TURN: Final = 10
# Claim of a tenant that has requests running but none waiting, in batches.
_MAX_CLAIM: Final = 4.0
OTHERS: Final = "others"
"""The tenant of those beyond `max_tenants`."""


class Account:
    """A tenant: its counter of weighted tokens, and its requests that run and wait.

    `unreported` are the tokens served here that other processes do not know of yet. Retries have
    been promised turns until `promised_until`, in seconds of a monotonic clock.
    """

    __slots__ = ("counter", "promised_until", "running", "tenant", "unreported", "waiting")

    def __init__(self, tenant: str, counter: float = 0.0) -> None:
        self.tenant = tenant
        self.counter = counter
        self.promised_until = 0.0
        self.running = 0
        self.unreported = 0.0
        self.waiting = 0


class Accounts:
    """The tenants of one model by name, of which at most `max_tenants` are told apart.

    `by_tenant` holds the known ones. `mean_cost` are the weighted tokens of a typical response.
    """

    def __init__(self, max_tenants: int) -> None:
        self._max_tenants = max_tenants
        self._floor = 0.0
        self.mean_cost = 0.0
        self.by_tenant: dict[str, Account] = {}

    def find(self, tenant: str) -> Account:
        """Return the account of a tenant, or the one that those beyond the maximum share."""
        account = self.by_tenant.get(tenant)
        if account is None and tenant != OTHERS and len(self.by_tenant) >= self._max_tenants:
            self._drop_idle()
            if len(self.by_tenant) >= self._max_tenants:
                return self.find(OTHERS)
        if account is None:
            account = self.by_tenant[tenant] = Account(tenant, self._floor)
        return account

    def waiting(self) -> Sequence[Account]:
        """Return the tenants that have requests in the queue."""
        return [account for account in self.by_tenant.values() if account.waiting]

    def activate(self, account: Account) -> None:
        """Bound the claim of a tenant that begins to wait.

        While it did not wait, it did not want more than it got, so it has no claim to the tokens
        that others were served meanwhile. But tenants in a row of turns run out of waiting requests
        for a moment, and then keep a claim of a few batches.
        """
        waiting = [other.counter for other in self.waiting()]
        running = [other for other in self.by_tenant.values() if other.running]
        if waiting:
            level = min(waiting)
        else:  # nobody lacks anything: all are equal from now on
            level = max([other.counter for other in running], default=self._floor)
        if account.running:
            level -= _MAX_CLAIM * self.mean_cost * sum([other.running for other in running])
        account.counter = max(account.counter, level)

    def note_turn(self, account: Account) -> None:
        """Note whose turn it was: idle tenants start at its counter."""
        self._floor = max(self._floor, account.counter)

    def _drop_idle(self) -> None:
        self.by_tenant = {
            tenant: account
            for tenant, account in self.by_tenant.items()
            if account.running or account.waiting
        }


class Waiter:
    """A request that waits.

    `rank` is the index of its class; inside a tenant, a lower `priority` is earlier. `cost` is the
    expected number of weighted tokens. `size` is in bytes, `expires_at` in seconds of a monotonic
    clock. `turn` is done when it gets a slot, or fails with the reason why it gets none.
    """

    __slots__ = (
        "account",
        "cost",
        "expires_at",
        "is_queued",
        "priority",
        "queued_at",
        "rank",
        "size",
        "turn",
    )

    def __init__(
        self,
        account: Account,
        rank: int,
        priority: int,
        *,
        cost: float,
        size: int,
        queued_at: float,
        expires_at: float,
        turn: "asyncio.Future[None]",
    ) -> None:
        self.account = account
        self.rank = rank
        self.priority = priority
        self.cost = cost
        self.size = size
        self.queued_at = queued_at
        self.expires_at = expires_at
        self.turn = turn
        self.is_queued = False


class FairQueue:
    """Waiting requests of `accounts`; `length` is their number and `size` their total in bytes."""

    def __init__(self, accounts: Accounts) -> None:
        self.accounts = accounts
        self._heaps: Sequence[dict[Account, list[tuple[int, int, Waiter]]]] = [{} for _ in CLASSES]
        self._order = count()
        self._turns = 0
        self._counts = [0] * len(CLASSES)
        self.length = 0
        self.size = 0

    def count_class(self, rank: int) -> int:
        """Return the number of waiting requests of a class."""
        return self._counts[rank]

    def count_tenants(self, account: Account) -> int:
        """Return the number of tenants that wait, including this one."""
        return len(self.accounts.waiting()) + (account.waiting == 0)

    def count_ahead(self, account: Account, rank: int) -> int:
        """Estimate how many requests are served before a new one of this tenant and class.

        Those are its tenant's own, as often as there are tenants that wait, but no more than wait
        in its class and those before it.
        """
        tenants = self.count_tenants(account)
        return min(sum(self._counts[: rank + 1]), account.waiting * tenants + tenants - 1)

    def push(self, waiter: Waiter) -> None:
        """Add a request."""
        account = waiter.account
        if not account.waiting:
            self.accounts.activate(account)
        account.waiting += 1
        waiter.is_queued = True
        heap = self._heaps[waiter.rank].setdefault(account, [])
        heapq.heappush(heap, (waiter.priority, next(self._order), waiter))
        self._counts[waiter.rank] += 1
        self.length += 1
        self.size += waiter.size

    def remove(self, waiter: Waiter) -> None:
        """Remove a request that waits."""
        heaps = self._heaps[waiter.rank]
        heap = heaps[waiter.account]
        heap[:] = [item for item in heap if item[2] is not waiter]
        heapq.heapify(heap)
        if not heap:
            del heaps[waiter.account]
        self._count_out(waiter)

    def pop(self, ranks: int = len(CLASSES)) -> Waiter | None:
        """Take the request whose turn it is, of the first `ranks` classes."""
        self._turns += 1
        order = range(ranks)
        for rank in reversed(order) if self._turns % _FULL_TURN == 0 else order:
            heaps = self._heaps[rank]
            if heaps:
                account = min(heaps, key=lambda account: (account.counter, account.running))
                _, _, waiter = heapq.heappop(heaps[account])
                if not heaps[account]:
                    del heaps[account]
                self._count_out(waiter)
                self.accounts.note_turn(account)
                return waiter
        return None

    def find_last(self, account: Account) -> Waiter | None:
        """Return the request of a tenant that would be served last."""
        for heaps in reversed(self._heaps):
            if account in heaps:
                return max(heaps[account])[2]
        return None

    def _count_out(self, waiter: Waiter) -> None:
        waiter.is_queued = False
        waiter.account.waiting -= 1
        self._counts[waiter.rank] -= 1
        self.length -= 1
        self.size -= waiter.size
