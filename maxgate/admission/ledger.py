"""Slots of a model that several gateway processes share by leases.

Each process is a holder: it reports its requests, is granted slots, and renews the grant before
the lease expires. Taking and giving back one slot needs no ledger.
"""

import math
from collections import Counter
from collections.abc import Mapping
from random import getrandbits
from typing import Final, NamedTuple, Protocol, runtime_checkable

from maxgate.errors import MaxgateError

LEASE_SECONDS: Final = 10.0
"""Time after which the slots of a holder that does not renew are free."""
RENEW_SECONDS: Final = 3.0
"""Interval of renewals; two may fail before the lease expires."""
TURN_SECONDS: Final = 3.0
"""Time after which a scarce slot goes to another holder."""
MAX_TENANTS: Final = 1000
"""Number of tenants told apart per model; further ones share OTHER_TENANTS."""
OTHER_TENANTS: Final = "others"
HEADROOM: Final = 0.5
"""Share of the free slots that is spread over holders, so that few requests need a renewal."""
MAX_CAPACITY: Final = 1_000_000_000
"""Capacity of a model whose limit is not known; larger numbers count as this."""

_MICRO: Final = 1_000_000
_GOLDEN: Final = 618_034
"""Golden section in millionths: its multiples, modulo one, spread evenly."""


class LedgerUnavailable(MaxgateError):
    """The ledger cannot be read or written at the moment."""


class Holding(NamedTuple):
    """A holder's report about one model.

    `capacity` is the holder's own estimate of the model's slots, which counts while it leads.
    `demand` has the running and waiting requests of each tenant, `served` the weighted tokens of
    each tenant since the last renewal.
    """

    capacity: int
    in_use: int
    demand: Mapping[str, int]
    served: Mapping[str, float]


class Grant(NamedTuple):
    """The slots of one holder until its lease expires.

    `slots` may be below the slots in use: then no request starts until enough have ended.
    `capacity` is that of the leader, which is the live holder with the smallest id of those that
    know a capacity; with MAX_CAPACITY, `slots` is no limit. `served` has the weighted tokens that
    other holders have served since this holder's last renewal. `unleased` are slots that no
    holder has.
    """

    slots: int
    capacity: int
    served: Mapping[str, float]
    is_leader: bool
    unleased: int = 0


class SlotLedger(Protocol):
    """Divides the slots of each model between holders; one object is one holder.

    The sum of unexpired grants never exceeds the capacity. A holder that runs more requests than
    it has slots keeps the surplus from others until they end.
    """

    async def renew(self, model: str, holding: Holding) -> Grant:
        """Report and get slots for the next LEASE_SECONDS; raises LedgerUnavailable."""
        ...

    async def release(self) -> None:
        """Give all slots back and close what is open, at the shutdown; never raises."""
        ...


@runtime_checkable
class LocalLedger(SlotLedger, Protocol):
    """A ledger that answers within microseconds."""

    def renew_now(self, model: str, holding: Holding) -> Grant:
        """Renew without waiting; raises LedgerUnavailable."""
        ...


def create_holder_id(started_at: float) -> str:
    """Return a unique id; of two holders, the one with the smaller id started first.

    `started_at` is in seconds since 1970. So a new process does not take the lead.
    """
    return f"{int(started_at * 1000):012x}-{getrandbits(64):016x}"


def allocate_slots(
    capacity: int,
    demands: Mapping[str, Mapping[str, int]],
    *,
    headroom: float = 0.0,
    turn: int = 0,
) -> dict[str, int]:
    """Return the target of each holder, given the demand of each of its tenants.

    Slots are divided max-min fairly between tenants, and each tenant's part between holders by its
    demand there. No holder gets more than it demands, except that `headroom` is the share of free
    slots that is spread over the holders: one for each holder without demand, if there is one for
    every holder, and the rest for those with demand. A holder with demand gets at least one slot
    if there are enough; otherwise holders take turns, by the number of the turn. Equal demands give
    equal targets, whatever the order.
    """
    wanted = {holder: sum(demand.values()) for holder, demand in demands.items()}
    busy = sum(1 for count in wanted.values() if count)
    free = capacity - sum(wanted.values())
    if free >= 0:
        reserve = int(free * headroom)
        idle = 1 if reserve >= len(wanted) else 0
        extra = (reserve - idle * (len(wanted) - busy)) // busy if busy else 0
        return {holder: count + extra if count else idle for holder, count in wanted.items()}
    totals: Counter[str] = Counter()
    for demand in demands.values():
        totals.update(demand)
    level = find_water_level(capacity, totals)
    satisfied = {tenant: min(1.0, level / total) for tenant, total in totals.items() if total}
    exact = {
        holder: sum([count * satisfied[tenant] for tenant, count in demand.items() if count])
        for holder, demand in demands.items()
    }
    if capacity < busy:
        return _take_turns(exact, turn)
    slots = _round(capacity, exact)
    for holder in sorted(h for h, count in wanted.items() if count and not slots[h]):
        richest = min(slots, key=lambda h: (-slots[h], h))
        slots[richest] -= 1
        slots[holder] = 1
    return slots


def find_water_level(capacity: int, totals: Mapping[str, int]) -> float:
    """Return the level at which the sum of `min(total, level)` is the capacity.

    It is infinite if the capacity suffices for all.
    """
    rest, left = capacity, sum(1 for total in totals.values() if total)
    for total in sorted(total for total in totals.values() if total):
        if total * left >= rest:
            return rest / left
        rest -= total
        left -= 1
    return math.inf


def _round(capacity: int, exact: Mapping[str, float]) -> dict[str, int]:
    """Round to integers that sum to the capacity, by largest remainders, then by id."""
    # Whole millionths make the outcome independent of the order in which floats are added.
    micro = {holder: math.floor(value * _MICRO + 0.5) for holder, value in exact.items()}
    slots = {holder: value // _MICRO for holder, value in micro.items()}
    missing = capacity - sum(slots.values())
    for holder in sorted(micro, key=lambda h: (-(micro[h] % _MICRO), h))[:missing]:
        slots[holder] += 1
    return slots


def _take_turns(exact: Mapping[str, float], turn: int) -> dict[str, int]:
    """Round to integers with the same sum, which have the exact mean over many turns.

    The exact values lie end to end on a line; each holder gets the marks on its part. The marks
    have a distance of one and move with each turn.
    """
    slots, end, before = {}, 0.0, 0
    mark = turn * _GOLDEN % _MICRO
    for holder in sorted(exact):
        end += exact[holder]
        marks = max(0, math.ceil((math.floor(end * _MICRO + 0.5) - mark) / _MICRO))
        slots[holder] = marks - before
        before = marks
    return slots
