"""The ledger in Redis while Redis fails, with a store whose replies the test chooses."""

from collections.abc import Sequence
from typing import Any

import pytest

from maxgate.admission.ledger import LEASE_SECONDS, Grant, Holding, LedgerUnavailable
from maxgate.admission.redis_ledger import RedisLedger
from maxgate.stores.redis import RedisScript, RedisUnavailable
from tests.fakes.clock import FakeClock

IDLE = Holding(8, 0, {}, {})


class Store:
    """Replies with the next value, or raises it. `reports` are the arguments of scripts."""

    key_prefix = "test"

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)
        self.reports: list[tuple[str, list[Any]]] = []
        self.is_closed = False

    async def run_script(
        self, script: RedisScript, keys: Sequence[str], args: Sequence[Any]
    ) -> Any:
        self.reports.append((*keys, list(args)[1:]))  # the first one is random
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def close(self) -> None:
        self.is_closed = True


DOWN = RedisUnavailable("down")


async def test_report() -> None:
    """A report has all that the script needs, the slots of the last lease included."""
    store, clock = (
        Store([3, 8, 1, 4, 5, b"a", b"2.5"], [3, 8, 1, 4, 5], [3, 8, 1, 4, 5]),
        FakeClock(),
    )
    ledger = RedisLedger(store, clock=clock)
    await ledger.renew("m", Holding(8, 2, {"a": 5}, {"b": 1.5, "a": 0.5}))
    await ledger.renew("m", IDLE)
    clock.advance(LEASE_SECONDS)
    await ledger.renew("m", IDLE)

    fixed = [10.0, 60.0, 1000, "others", 0.5, 1_000_000_000, 3.0]
    assert store.reports == [
        ("test:{slots:m}", [*fixed, 0, 8, 2, "a", 5, 0.5, "b", 0, 1.5]),
        ("test:{slots:m}", [*fixed, 3, 8, 0]),
        ("test:{slots:m}", [*fixed, 0, 8, 0]),
    ]


async def test_outage() -> None:
    """Without Redis, the lease is used until it ends, and then an even share."""
    store, clock = Store([6, 8, 1, 3, 2], DOWN, DOWN, DOWN, DOWN), FakeClock()
    ledger = RedisLedger(store, clock=clock)
    grants = [await ledger.renew("m", IDLE)]
    for seconds in (0, LEASE_SECONDS - 0.1, 0.2, LEASE_SECONDS + 1):
        clock.advance(seconds)
        grants.append(await ledger.renew("m", IDLE))

    in_outage = [Grant(slots, 8, {}, True) for slots in (6, 6, 3, 3)]
    assert grants == [Grant(6, 8, {}, True, 2), *in_outage]


@pytest.mark.parametrize(("capacity", "slots"), [(8, [0, 1, 4]), (0, [0, 0, 0])])
async def test_idle_in_outage(capacity: int, slots: list[int]) -> None:
    """Without Redis, a holder without slots has one, until it has an even share."""
    store, clock = Store([0, capacity, 0, 4, 0], DOWN, DOWN), FakeClock()
    ledger = RedisLedger(store, clock=clock)
    granted = []
    for seconds in (0, 1, LEASE_SECONDS):
        clock.advance(seconds)
        granted.append((await ledger.renew("m", IDLE)).slots)

    assert granted == slots


async def test_end_of_outage() -> None:
    """The next report has the share used meanwhile, and the tokens served meanwhile."""
    store, clock = Store([6, 8, 1, 3, 2], DOWN, DOWN, [3, 8, 1, 3, 5, b"a", b"9"]), FakeClock()
    ledger = RedisLedger(store, clock=clock)
    await ledger.renew("m", IDLE)
    for tokens in (1.0, 2.0):
        clock.advance(LEASE_SECONDS)
        await ledger.renew("m", Holding(8, 0, {}, {"a": tokens}))
    grant = await ledger.renew("m", Holding(8, 0, {}, {"a": 4.0}))

    assert store.reports[-1][1][7:] == [3, 8, 0, "a", 0, 7.0]
    assert grant == Grant(3, 8, {"a": 2.0}, True, 5)


async def test_never_reached() -> None:
    """A model without a lease so far has no share."""
    ledger = RedisLedger(Store([1, 8, 1, 8, 7], DOWN), clock=FakeClock())
    await ledger.renew("one", IDLE)
    with pytest.raises(LedgerUnavailable, match="down"):
        await ledger.renew("two", IDLE)


@pytest.mark.parametrize(
    "reply",
    [
        None,
        b"OK",
        [],
        [1, 2, 3, 4],
        [9, 8, 1, 4, 0],
        [-1, 8, 1, 4, 0],
        [1, 8, 2, 4, 0],
        [1, 8, 1, 0, 0],
        [1, 8, 1, 4, -1],
        [1, 8, 1, 4, 8],
        [b"x", 8, 1, 4, 0],
        [1, 8, 1, 4, 0, b"a"],
        [1, 8, 1, 4, 0, b"a", b"nan"],
        [1, 8, 1, 4, 0, b"a", b"inf"],
        [1, 8, 1, 4, 0, b"\xff", b"1"],
        [1, 8, 1, 4, 0, 5, b"1"],
        [1, 8, 1, 4, 0, 2**40, b"1"],
        [1, 8, 1, 4, 0, b"a", None],
        [[1], 8, 1, 4, 0],
        [1, 8, 1, 4, 0, *(item for n in range(1002) for item in (b"%d" % n, b"1"))],
    ],
)
async def test_foreign_reply(reply: Any) -> None:
    """A reply that the script cannot have sent counts as an outage."""
    ledger = RedisLedger(Store([6, 8, 1, 3, 2], reply), clock=FakeClock())
    await ledger.renew("m", IDLE)

    assert await ledger.renew("m", IDLE) == Grant(6, 8, {}, True)


async def test_release_in_outage() -> None:
    """Giving slots back to a Redis that is down neither fails nor waits for each model."""
    store = Store([6, 8, 1, 3, 2], [6, 8, 1, 3, 2], DOWN)
    ledger = RedisLedger(store, clock=FakeClock())
    await ledger.renew("one", IDLE)
    await ledger.renew("two", IDLE)
    await ledger.release()

    assert [report[0] for report in store.reports[2:]] == ["test:{slots:one}"]
    assert store.is_closed
