"""The leases of one model: what a ledger stores, and how a renewal changes it.

`renew.lua` has the same rules for Redis.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from maxgate.admission.ledger import (
    HEADROOM,
    LEASE_SECONDS,
    MAX_CAPACITY,
    MAX_TENANTS,
    OTHER_TENANTS,
    TURN_SECONDS,
    Grant,
    Holding,
    allocate_slots,
)

SERVED_SECONDS: Final = 60.0
"""Time after which the tokens of a tenant that is no longer served are forgotten."""
_NOISE: Final = 1e-6
"""Differences of sums of tokens that are only rounding."""


@dataclass(slots=True)
class Lease:
    """The last report of a holder, and its slots until `expires_at`."""

    expires_at: float
    slots: int
    in_use: int
    capacity: int
    demand: dict[str, int]


class Served(NamedTuple):
    """Weighted tokens that all holders have served to a tenant."""

    tokens: float
    updated_at: float


class Renewal(NamedTuple):
    """A renewed lease; `even_share` is the capacity divided by the number of live holders.

    `unleased` are slots that no holder has.
    `totals` has the tokens served by all holders, this renewal included.
    """

    slots: int
    capacity: int
    is_leader: bool
    even_share: int
    unleased: int
    totals: Mapping[str, float]


@dataclass(slots=True)
class LeaseTable:
    """Leases by holder and served tokens by tenant; times are those of one clock, in seconds.

    No lease grows before `settles_at`, which is set after stored leases were lost: holders that
    have not yet renewed still use theirs.
    """

    leases: dict[str, Lease] = field(default_factory=dict)
    served: dict[str, Served] = field(default_factory=dict)
    settles_at: float = 0.0

    def renew(
        self, holder: str, holding: Holding, *, held: int, now: float, headroom: float = HEADROOM
    ) -> Renewal:
        """Store the holder's report and renew its lease.

        `held` is the number of slots that the holder is using by a lease, whether or not it is
        known here. `headroom` is that of `allocate_slots`.
        """
        self._drop_expired(now)
        old = self.leases.pop(holder, None)
        if old is not None:
            held = old.slots
        elif held:
            self.settles_at = now + LEASE_SECONDS
        names = self._fold_tenants([*holding.demand, *holding.served])
        self._add_served(names, holding.served, now)
        demand: dict[str, int] = {}
        for tenant, count in holding.demand.items():
            if count > 0:
                demand[names[tenant]] = demand.get(names[tenant], 0) + count
        reserved = sum(max(lease.slots, lease.in_use) for lease in self.leases.values())
        new = Lease(now + LEASE_SECONDS, 0, holding.in_use, holding.capacity, demand)
        self.leases[holder] = new
        knowing = [name for name, own in self.leases.items() if own.capacity < MAX_CAPACITY]
        leader = min(knowing or self.leases)
        capacity = min(max(0, self.leases[leader].capacity), MAX_CAPACITY)
        target = held
        if now >= self.settles_at:
            demands = {name: lease.demand for name, lease in self.leases.items()}
            if capacity == MAX_CAPACITY:
                headroom = 0.0  # reserves would be missing as soon as there is a limit
            turn = int(now // TURN_SECONDS)
            target = allocate_slots(capacity, demands, headroom=headroom, turn=turn)[holder]
        new.slots = max(0, min(target, capacity - reserved))
        totals = {tenant: total.tokens for tenant, total in self.served.items()}
        even_share = max(1, capacity // len(self.leases))
        unleased = max(0, capacity - reserved - max(new.slots, new.in_use))
        return Renewal(new.slots, capacity, leader == holder, even_share, unleased, totals)

    def _drop_expired(self, now: float) -> None:
        # The monotonic clock starts again at a reboot; times of an earlier one lie in the future.
        latest = now + LEASE_SECONDS
        for holder, lease in list(self.leases.items()):
            if not now < lease.expires_at <= latest:
                del self.leases[holder]
        for tenant, total in list(self.served.items()):
            if not now - SERVED_SECONDS < total.updated_at <= now:
                del self.served[tenant]
        if self.settles_at > latest:
            self.settles_at = 0.0

    def _fold_tenants(self, names: Iterable[str]) -> dict[str, str]:
        """Map reported tenants to stored ones."""
        folded = {name: name for name in names}
        demands = [lease.demand for lease in self.leases.values()]
        if len(folded) + len(self.served) + sum(map(len, demands)) <= MAX_TENANTS:
            return folded
        known = set(self.served).union(*demands)
        for name in folded:
            if name not in known:
                if len(known) < MAX_TENANTS:
                    known.add(name)
                else:
                    folded[name] = OTHER_TENANTS
        return folded

    def _add_served(
        self, names: Mapping[str, str], served: Mapping[str, float], now: float
    ) -> None:
        for tenant, tokens in served.items():
            if tokens > 0:
                name = names[tenant]
                total = self.served.get(name)
                self.served[name] = Served(tokens + (total.tokens if total else 0.0), now)


class GrantBuilder:
    """Turns the renewals of one holder into grants: subtracts the tokens that it knows already."""

    def __init__(self) -> None:
        self._seen: dict[str, Mapping[str, float]] = {}

    def build(self, model: str, renewal: Renewal, own: Mapping[str, float]) -> Grant:
        """Return the grant for a renewal that has reported the served tokens `own`."""
        totals = renewal.totals
        seen = self._seen.get(model, totals)
        self._seen[model] = totals
        known = dict(own)
        known[OTHER_TENANTS] = sum(
            tokens
            for tenant, tokens in own.items()
            if tenant == OTHER_TENANTS or tenant not in totals
        )
        served = {}
        for tenant, total in totals.items():
            before = seen.get(tenant, 0.0)
            # A smaller total has started again from zero.
            new = total - known.get(tenant, 0.0) - (before if before <= total else 0.0)
            if new > _NOISE:
                served[tenant] = new
        return Grant(renewal.slots, renewal.capacity, served, renewal.is_leader, renewal.unleased)
