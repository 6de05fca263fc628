"""The ledger of gateways on several hosts: one Redis key per model, changed by one script.

Needs the extra `redis`, as maxgate/stores/redis.py does.
"""

import asyncio
import math
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, Final, NamedTuple

from typing_extensions import override

from maxgate.admission.lease_table import SERVED_SECONDS, GrantBuilder, Renewal
from maxgate.admission.ledger import (
    HEADROOM,
    LEASE_SECONDS,
    MAX_CAPACITY,
    MAX_TENANTS,
    OTHER_TENANTS,
    TURN_SECONDS,
    Grant,
    Holding,
    LedgerUnavailable,
    SlotLedger,
    create_holder_id,
)
from maxgate.clock import Clock, SystemClock
from maxgate.stores.redis import RedisScript, RedisStore, RedisUnavailable

RENEW_SCRIPT: Final = RedisScript(Path(__file__).with_name("renew.lua").read_text("utf-8"))


class _Held(NamedTuple):
    renewal: Renewal
    slots: int
    expires_at: float


class RedisLedger(SlotLedger):
    """One holder in the ledger of all gateways with the same Redis and key prefix.

    It owns the store, which is closed with the release.
    While Redis is unavailable, a holder keeps its slots until the lease expires (at least one, if
    the model has any), and then has the capacity divided by the number of holders. It has to have
    been granted slots of the model before; otherwise `renew` raises LedgerUnavailable.
    """

    def __init__(
        self,
        store: RedisStore,
        *,
        clock: Clock | None = None,
        headroom: float = HEADROOM,
        script: RedisScript = RENEW_SCRIPT,
    ) -> None:
        self._store = store
        self._clock = clock or SystemClock()
        self._headroom = headroom
        self._script = script
        self._holder = create_holder_id(self._clock.wall())
        self._held: dict[str, _Held] = {}
        self._unreported: dict[str, Counter[str]] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._grants = GrantBuilder()

    @override
    async def renew(self, model: str, holding: Holding) -> Grant:
        async with self._locks[model]:
            # With that of failed renewals; one whose reply was lost may count twice.
            served = Counter(self._unreported.pop(model, {}))
            served.update(holding.served)
            sent_at = self._clock.monotonic()
            report = self._build_report(model, holding._replace(served=served), sent_at)
            try:
                reply = await self._store.run_script(self._script, [self._name_key(model)], report)
                renewal = _parse(reply)
            except RedisUnavailable as error:
                self._unreported[model] = served
                return self._fall_back(model, error)
            self._held[model] = _Held(renewal, renewal.slots, sent_at + LEASE_SECONDS)
            return self._grants.build(model, renewal, served)

    @override
    async def release(self) -> None:
        for model in self._held:
            try:
                await self._store.run_script(self._script, [self._name_key(model)], [self._holder])
            except RedisUnavailable:
                break
        self._held.clear()
        await self._store.close()

    def _name_key(self, model: str) -> str:
        # In a cluster, keys with the same text in braces are on the same node.
        return f"{self._store.key_prefix}:{{slots:{model}}}"

    def _build_report(self, model: str, holding: Holding, now: float) -> list[str | int | float]:
        held = self._held.get(model)
        is_held = held is not None and now < held.expires_at
        report: list[str | int | float] = [
            self._holder,
            LEASE_SECONDS,
            SERVED_SECONDS,
            MAX_TENANTS,
            OTHER_TENANTS,
            self._headroom,
            MAX_CAPACITY,
            TURN_SECONDS,
            held.slots if held is not None and is_held else 0,
            holding.capacity,
            holding.in_use,
        ]
        for tenant in dict.fromkeys([*holding.demand, *holding.served]):
            report += tenant, holding.demand.get(tenant, 0), holding.served.get(tenant, 0.0)
        return report

    def _fall_back(self, model: str, error: RedisUnavailable) -> Grant:
        held = self._held.get(model)
        if held is None:
            raise LedgerUnavailable(str(error)) from error
        now = self._clock.monotonic()
        renewal, slots = held.renewal, max(held.slots, min(1, held.renewal.capacity))
        if now >= held.expires_at:
            slots = min(renewal.even_share, renewal.capacity)
            self._held[model] = _Held(renewal, slots, now + LEASE_SECONDS)
        return Grant(slots, renewal.capacity, {}, renewal.is_leader)


def _parse(reply: Any) -> Renewal:
    """Check a reply of the script; raises RedisUnavailable if it is not one."""
    try:
        slots, capacity, leads, even_share, unleased = map(int, reply[:5])
        totals = {
            str(tenant, "utf-8"): float(tokens)
            for tenant, tokens in zip(reply[5::2], reply[6::2], strict=True)
        }
    except (TypeError, ValueError) as error:
        raise RedisUnavailable("the reply of Redis is not a renewal of a lease") from error
    is_sane = 0 <= slots <= capacity and even_share >= 1 and leads in {0, 1}
    is_sane = is_sane and 0 <= unleased <= capacity - slots
    # The shared tenant comes on top.
    are_sane = len(totals) <= MAX_TENANTS + 1 and all(map(math.isfinite, totals.values()))
    if not is_sane or not are_sane:
        raise RedisUnavailable("the reply of Redis is not a renewal of a lease")
    return Renewal(slots, capacity, bool(leads), even_share, unleased, totals)
