"""The share of this process of the slots that several workers or gateways divide by a ledger."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from maxgate.admission.capacity import UNLIMITED
from maxgate.admission.ledger import (
    MAX_CAPACITY,
    Grant,
    Holding,
    LedgerUnavailable,
    SlotLedger,
)
from maxgate.admission.slots import ModelSlots

PRIORITY_TENANT: Final = "\0priority"
"""A tenant of the ledger, whose served tokens are the number of priority requests."""
_MIN_INTERVAL: Final = 0.02
"""Seconds between renewals that blocked requests ask for."""

_log = structlog.get_logger()


class SharedSlots:
    """Renews the leases of all models.

    `on_grant` gets a model and the slots that this process has from now on. While the ledger is
    unavailable, the last grant stays.
    """

    def __init__(self, ledger: SlotLedger, on_grant: Callable[[str, int], None]) -> None:
        self._ledger = ledger
        self._on_grant = on_grant
        self._grants: dict[str, Grant] = {}
        self._renewed_at: dict[str, float] = {}
        self._renewals: dict[str, asyncio.Task[None]] = {}
        self._is_failing = False

    async def renew(self, model: str, slots: ModelSlots) -> None:
        """Report the requests of a model, and get the slots for the next seconds."""
        capacity, before = slots.capacity, self._grants.get(model)
        if before is not None and not before.is_leader:
            capacity = before.capacity
        holding = _report(slots, min(capacity, MAX_CAPACITY))
        try:
            grant = await self._ledger.renew(model, holding)
        except LedgerUnavailable as error:
            _take_back(slots, holding)
            if not self._is_failing:
                _log.warning("slots are not shared at the moment", error=str(error))
            self._is_failing = True
            if before is None:
                self._on_grant(model, capacity)
            return
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
        self._on_grant(model, UNLIMITED if grant.capacity >= MAX_CAPACITY else grant.slots)

    def renew_soon(self, model: str, slots: ModelSlots) -> None:
        """Renew for a request that finds no slot, while others may have some."""
        now = asyncio.get_running_loop().time()
        task = self._renewals.get(model)
        is_running = task is not None and not task.done()
        if is_running or now - self._renewed_at.get(model, float("-inf")) < _MIN_INTERVAL:
            return
        self._renewed_at[model] = now
        self._renewals[model] = asyncio.create_task(self.renew(model, slots))

    async def release(self) -> None:
        """Give everything back, at the shutdown."""
        for task in self._renewals.values():
            task.cancel()
        await asyncio.gather(*self._renewals.values(), return_exceptions=True)
        await self._ledger.release()


def _report(slots: ModelSlots, capacity: int) -> Holding:
    """Report the requests, and the tokens served since the last report."""
    accounts = slots.accounts.by_tenant.values()
    demand = {a.tenant: a.running + a.waiting for a in accounts if a.running or a.waiting}
    served = {a.tenant: a.unreported for a in accounts if a.unreported}
    for account in accounts:
        account.unreported = 0.0
    if slots.priority_requests:
        served[PRIORITY_TENANT] = float(slots.priority_requests)
        slots.priority_requests = 0
    return Holding(capacity, slots.in_use, demand, served)


def _take_back(slots: ModelSlots, holding: Holding) -> None:
    """Keep what has not been reported for the next report."""
    for tenant, tokens in holding.served.items():
        if tenant == PRIORITY_TENANT:
            slots.priority_requests += int(tokens)
        else:
            slots.accounts.find(tenant).unreported += tokens
