"""Every ledger of slots keeps the same rules."""

import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest

from maxgate.admission.ledger import (
    LEASE_SECONDS,
    MAX_CAPACITY,
    MAX_TENANTS,
    OTHER_TENANTS,
    RENEW_SECONDS,
    Grant,
    Holding,
    SlotLedger,
)
from tests.fakes.redis_server import RedisServer, start_redis
from tests.fakes.slot_ledgers import FileLedgers, Ledgers, MemoryLedgers, RedisLedgers

MODEL = "llama {a}"
CAPACITY = 8


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with start_redis() as server:
        yield server


@pytest.fixture(params=["memory", "file", "redis"])
async def ledgers(
    request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer
) -> AsyncIterator[Ledgers]:
    """Each kind of ledger."""
    kinds = {
        "memory": MemoryLedgers,
        "file": lambda: FileLedgers(tmp_path / "ledger"),
        "redis": lambda: RedisLedgers(redis_server.url),
    }
    opened = kinds[request.param]()
    yield opened
    await opened.aclose()


async def renew(
    ledger: SlotLedger,
    demand: Mapping[str, int],
    *,
    in_use: int = 0,
    served: Mapping[str, float] | None = None,
    capacity: int = CAPACITY,
) -> Grant:
    """Renew the lease of the one model."""
    return await ledger.renew(MODEL, Holding(capacity, in_use, demand, served or {}))


async def test_all_slots(ledgers: Ledgers) -> None:
    """The only holder gets all slots that it can use."""
    assert await renew(ledgers.open(), {"a": 100}) == Grant(CAPACITY, CAPACITY, {}, True)


async def test_free_slots(ledgers: Ledgers) -> None:
    """Free slots go to the next holder that has demand."""
    first, second = ledgers.open(), ledgers.open()
    await renew(first, {"a": 3})

    granted = (await renew(second, {"b": 2})).slots

    assert 2 <= granted <= CAPACITY - 3


async def test_idle_holder(ledgers: Ledgers) -> None:
    """A holder without requests keeps one slot, and gives it up when others need it."""
    first, second = ledgers.open(), ledgers.open()
    await renew(first, {"a": 100})
    granted = [await renew(first, {})]
    granted += [await renew(second, {"b": 100}), await renew(first, {})]
    granted.append(await renew(second, {"b": 100}))

    assert [grant.slots for grant in granted] == [1, CAPACITY - 1, 0, CAPACITY]


async def test_idle_holders(ledgers: Ledgers) -> None:
    """Holders without requests keep no slot if there are few; the leader reports free ones."""
    holders = [ledgers.open() for _ in range(5)]
    granted = [await renew(holder, {}) for holder in holders]
    granted += [await renew(holder, {}) for holder in holders]

    assert granted[4:6] == [Grant(0, CAPACITY, {}, False, 4), Grant(0, CAPACITY, {}, True, 5)]
    assert granted[-1] == Grant(0, CAPACITY, {}, False, 8)


async def test_fair_shares(ledgers: Ledgers) -> None:
    """Tenants get equal parts, wherever their requests are."""
    first, second = ledgers.open(), ledgers.open()
    await renew(first, {})
    await renew(second, {"a": 70, "b": 10})
    await renew(first, {"a": 10})
    await renew(second, {"a": 70, "b": 10})

    # Half of the slots are for `a`, an eighth of them here.
    assert (await renew(first, {"a": 10})).slots == 1
    assert (await renew(second, {"a": 70, "b": 10})).slots == 7


async def test_surplus(ledgers: Ledgers) -> None:
    """Requests beyond a reduced share keep their slots until they end."""
    first, second = ledgers.open(), ledgers.open()
    await renew(first, {"a": 20})
    before = await renew(second, {"b": 20})
    reduced = await renew(first, {"a": 20}, in_use=7)
    some = await renew(second, {"b": 20})
    await renew(first, {"a": 20}, in_use=5)
    more = await renew(second, {"b": 20})
    await renew(first, {"a": 20}, in_use=4)
    all_of_them = await renew(second, {"b": 20})

    granted = [grant.slots for grant in (before, reduced, some, more, all_of_them)]
    assert granted == [0, 4, 1, 3, 4]


async def test_dead_holder(ledgers: Ledgers) -> None:
    """The slots of a holder that dies are free when its lease ends, and not before."""
    dead, alive = ledgers.open(), ledgers.open()
    await renew(dead, {"a": 100}, in_use=CAPACITY)
    granted = []
    for seconds in (0.0, LEASE_SECONDS - 0.01, 0.02):
        ledgers.advance(seconds)
        granted.append((await renew(alive, {"b": 100})).slots)

    assert granted == [0, 0, CAPACITY]


async def test_late_holder(ledgers: Ledgers) -> None:
    """A holder that comes back after its lease has ended gets what others have left."""
    late, other = ledgers.open(), ledgers.open()
    await renew(late, {"a": 100})
    ledgers.advance(LEASE_SECONDS)
    await renew(other, {"b": 100})

    assert (await renew(late, {"a": 100}, in_use=CAPACITY)).slots == 0
    assert (await renew(other, {"b": 100})).slots == 0  # until requests of the late one end
    await renew(late, {"a": 100}, in_use=0)
    assert (await renew(other, {"b": 100})).slots == CAPACITY // 2


async def test_release(ledgers: Ledgers) -> None:
    """A holder that stops gives its slots back at once."""
    first, second = ledgers.open(), ledgers.open()
    await renew(first, {"a": 100})
    await first.release()

    assert (await renew(second, {"b": 100})).slots == CAPACITY


async def test_leader(ledgers: Ledgers) -> None:
    """The capacity is that of the oldest holder, then of the next oldest."""
    oldest, newest = ledgers.open(), ledgers.open()
    first = await renew(oldest, {}, capacity=3)
    second = await renew(newest, {"b": 100}, capacity=6)
    ledgers.advance(LEASE_SECONDS)
    third = await renew(newest, {"b": 100}, capacity=6)

    assert [first, second, third] == [
        Grant(1, 3, {}, True, 2),  # an idle holder keeps one
        Grant(2, 3, {}, False),
        Grant(6, 6, {}, True),
    ]


async def test_oldest_without_capacity(ledgers: Ledgers) -> None:
    """The oldest holder does not lead while it knows no capacity, and another one does."""
    oldest, newest = ledgers.open(), ledgers.open()
    first = await renew(newest, {"b": 100}, capacity=6)
    second = await renew(oldest, {"a": 100}, capacity=MAX_CAPACITY)
    third = await renew(newest, {"b": 100}, capacity=MAX_CAPACITY)

    assert first == Grant(6, 6, {}, True)
    assert second == Grant(0, 6, {}, False)
    assert (third.capacity, third.is_leader) == (MAX_CAPACITY, False)


async def test_shrinking_capacity(ledgers: Ledgers) -> None:
    """A smaller capacity is kept as soon as every holder has renewed."""
    first, second = ledgers.open(), ledgers.open()
    await renew(first, {"a": 4})
    await renew(second, {"b": 4})
    granted = [(await renew(first, {"a": 4}, capacity=2)).slots]
    granted.append((await renew(second, {"b": 4})).slots)
    granted.append((await renew(first, {"a": 4}, capacity=2)).slots)

    assert granted == [0, 1, 1]


async def test_scarce_slots(ledgers: Ledgers) -> None:
    """Holders take turns if there are fewer slots than busy holders."""
    holders = [ledgers.open() for _ in range(3)]
    turns = []
    for _ in range(40):
        for _ in range(2):  # the slot is given back, then taken
            granted = [(await renew(holder, {"a": 5}, capacity=1)).slots for holder in holders]
        turns.append(granted)
        ledgers.advance(RENEW_SECONDS)

    assert {sum(granted) for granted in turns} == {1}
    assert all(12 <= sum(granted) <= 15 for granted in zip(*turns, strict=True))


async def test_no_capacity(ledgers: Ledgers) -> None:
    """A model without slots has none to grant."""
    assert await renew(ledgers.open(), {"a": 1}, capacity=0) == Grant(0, 0, {}, True)


@pytest.mark.parametrize("capacity", [MAX_CAPACITY, sys.maxsize])
async def test_unknown_capacity(ledgers: Ledgers, capacity: int) -> None:
    """Without a limit, a holder has what it demands, so that a limit holds from the beginning."""
    first, second = ledgers.open(), ledgers.open()
    unlimited = await renew(first, {"a": 3}, capacity=capacity)
    await renew(first, {"a": 3}, capacity=CAPACITY)

    assert unlimited == Grant(3, MAX_CAPACITY, {}, True, MAX_CAPACITY - 3)
    assert (await renew(second, {"b": 9})).slots == CAPACITY - 3 - 2  # a reserve


async def test_served_tokens(ledgers: Ledgers) -> None:
    """Each holder learns once of the tokens that others have served."""
    first, second = ledgers.open(), ledgers.open()
    await renew(first, {})
    await renew(second, {}, served={"a": 5.5, "b": 2})

    own = await renew(second, {}, served={"a": 1})
    news = await renew(first, {}, served={"a": 3})
    no_news = await renew(first, {})
    back = await renew(second, {})

    served = [grant.served for grant in (own, news, no_news, back)]
    assert served == [{}, {"a": 6.5, "b": 2.0}, {}, {"a": 3.0}]


async def test_old_tokens(ledgers: Ledgers) -> None:
    """A new holder does not learn of tokens that were served before it started."""
    first, second = ledgers.open(), ledgers.open()
    await renew(first, {}, served={"a": 5})

    assert (await renew(second, {})).served == {}


async def test_forgotten_tokens(ledgers: Ledgers) -> None:
    """The tokens of a tenant that was gone for a minute are counted from zero."""
    first, second = ledgers.open(), ledgers.open()
    await renew(second, {}, served={"a": 5})
    await renew(first, {})
    ledgers.advance(61)
    await renew(first, {})
    await renew(second, {}, served={"a": 9})

    assert (await renew(first, {})).served == {"a": 9.0}


async def test_many_tenants(ledgers: Ledgers) -> None:
    """Tenants beyond the maximum share one part of the slots."""
    first, second = ledgers.open(), ledgers.open()
    await renew(first, {f"t{n}": 1 for n in range(MAX_TENANTS)}, capacity=2000)
    await renew(second, {f"u{n}": 1 for n in range(50)}, served={"u3": 2.0, "u4": 1.0})

    assert (await renew(first, {})).served == {OTHER_TENANTS: 3.0}


async def test_models(ledgers: Ledgers) -> None:
    """Each model has slots of its own."""
    first, second = ledgers.open(), ledgers.open()
    await first.renew("one", Holding(4, 0, {"a": 9}, {}))

    assert (await second.renew("two", Holding(4, 0, {"a": 9}, {}))).slots == 4


async def test_lost_leases(ledgers: Ledgers) -> None:
    """After all that is stored is lost, no lease grows until every holder has come back."""
    first, second = ledgers.open(), ledgers.open()
    await renew(first, {"a": 3})
    await renew(first, {"a": 3, "b": 0})
    slots = (await renew(second, {"b": 4})).slots
    held = CAPACITY - slots
    ledgers.lose_everything()
    before = [(await renew(first, {"a": 100})).slots, (await renew(second, {"b": 100})).slots]
    for _ in range(4):
        ledgers.advance(RENEW_SECONDS)
        after = [(await renew(first, {"a": 100})).slots, (await renew(second, {"b": 100})).slots]

    assert sum(before) <= CAPACITY
    assert before[1] == slots
    assert before[0] in {3, held}
    assert after == [CAPACITY // 2, CAPACITY // 2]
