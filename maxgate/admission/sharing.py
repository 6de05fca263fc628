"""The share of this process of the slots that several workers or gateways divide by a ledger."""

import asyncio
from typing import Final, Protocol

import structlog

from maxgate.admission.capacity import UNLIMITED
from maxgate.admission.ledger import (
    MAX_CAPACITY,
    Grant,
    Holding,
    LedgerUnavailable,
    LocalLedger,
    SlotLedger,
)
from maxgate.admission.slots import ModelSlots

PRIORITY_TENANT: Final = "\0priority"
"""A tenant of the ledger, whose served tokens are the number of priority requests."""
_MIN_INTERVAL: Final = 0.02
"""Seconds after a renewal for blocked requests that left no free slot."""

_log = structlog.get_logger("admission")


class UseGrant(Protocol):
    """Takes the slots of a model that this process has from now on."""

    def __call__(self, model: str, slots: int, *, unleased: int) -> None:
        """Take the slots, and those that no process has, which only the leader reports."""
        ...


class SharedSlots:
    """Renews the leases of all models.

    `on_grant` gets each grant. While the ledger is unavailable, the last grant stays.
    """

    def __init__(self, ledger: SlotLedger, on_grant: UseGrant) -> None:
        self._ledger = ledger
        self._local = ledger if isinstance(ledger, LocalLedger) else None
        self._on_grant = on_grant
        self._grants: dict[str, Grant] = {}
        self._renew_at: dict[str, float] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._renewals: set[asyncio.Task[None]] = set()
        self._is_failing = False

    async def renew(self, model: str, slots: ModelSlots) -> None:
        """Report the requests of a model, and get the slots for the next seconds."""
        holding = self._report(model, slots)
        try:
            grant = await self._ledger.renew(model, holding)
        except LedgerUnavailable as error:
            self._keep_grant(model, slots, holding, error)
        else:
            self._use(model, slots, grant)

    def renew_soon(self, model: str, slots: ModelSlots, tenant: str | None = None) -> None:
        """Renew for a request that finds no slot, while others may have some.

        A local ledger is renewed before this returns, unless it had no free slot a moment ago.
        `tenant` is that of the request, if the request is not in the queue yet.
        """
        if model in self._timers:
            return
        loop = asyncio.get_running_loop()
        now, renew_at = loop.time(), self._renew_at.get(model, float("-inf"))
        if now < renew_at:
            self._timers[model] = loop.call_at(renew_at, self._renew_late, model, slots)
            return
        if tenant is not None or slots.queue.length:
            self._renew_at[model] = now + _MIN_INTERVAL
        if self._local is None:
            renewal = asyncio.create_task(self.renew(model, slots))
            self._renewals.add(renewal)
            renewal.add_done_callback(self._renewals.discard)
            return
        holding = self._report(model, slots, tenant)
        try:
            grant = self._local.renew_now(model, holding)
        except LedgerUnavailable as error:
            self._keep_grant(model, slots, holding, error)
        else:
            self._use(model, slots, grant)

    def _renew_late(self, model: str, slots: ModelSlots) -> None:
        del self._timers[model]
        if slots.queue.length:
            self.renew_soon(model, slots)

    def _report(self, model: str, slots: ModelSlots, tenant: str | None = None) -> Holding:
        """Report the requests and tokens of all tenants, and another request of one."""
        accounts = slots.accounts.by_tenant.values()
        demand = {a.tenant: a.running + a.waiting for a in accounts if a.running or a.waiting}
        if tenant is not None:
            demand[tenant] = demand.get(tenant, 0) + 1
        served = {a.tenant: a.unreported for a in accounts if a.unreported}
        for account in accounts:
            account.unreported = 0.0
        if slots.priority_requests:
            served[PRIORITY_TENANT] = float(slots.priority_requests)
            slots.priority_requests = 0
        before = self._grants.get(model)
        follows = before is not None and not before.is_leader
        capacity = before.capacity if before is not None and follows else slots.capacity
        return Holding(min(capacity, MAX_CAPACITY), slots.in_use, demand, served)

    def _use(self, model: str, slots: ModelSlots, grant: Grant) -> None:
        self._is_failing = False
        self._grants[model] = grant
        slots.shared_capacity = grant.capacity
        if not grant.is_leader and grant.capacity < MAX_CAPACITY:
            slots.limit.adopt(grant.capacity)
        for tenant, tokens in grant.served.items():
            if tenant == PRIORITY_TENANT:  # all processes keep slots for the class
                slots.priority_at = asyncio.get_running_loop().time()
            else:
                slots.accounts.find(tenant).counter += tokens
                slots.limit.others += tokens
        if grant.capacity >= MAX_CAPACITY:
            self._on_grant(model, UNLIMITED, unleased=0)
        else:
            self._on_grant(model, grant.slots, unleased=grant.unleased if grant.is_leader else 0)
        if slots.in_use < slots.slots:
            self._renew_at.pop(model, None)

    def _keep_grant(
        self, model: str, slots: ModelSlots, holding: Holding, error: LedgerUnavailable
    ) -> None:
        _take_back(slots, holding)
        if not self._is_failing:
            _log.warning("slots are not shared at the moment", error=str(error))
        self._is_failing = True
        if model not in self._grants:
            self._on_grant(model, slots.capacity, unleased=0)

    async def release(self) -> None:
        """Give everything back, at the shutdown."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for renewal in self._renewals:
            renewal.cancel()
        await asyncio.gather(*self._renewals, return_exceptions=True)
        await self._ledger.release()


def _take_back(slots: ModelSlots, holding: Holding) -> None:
    """Keep what has not been reported for the next report."""
    for tenant, tokens in holding.served.items():
        if tenant == PRIORITY_TENANT:
            slots.priority_requests += int(tokens)
        else:
            slots.accounts.find(tenant).unreported += tokens
