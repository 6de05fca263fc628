"""The division of slots between tenants and holders."""

from collections import Counter
from collections.abc import Mapping
from math import inf, isclose

from hypothesis import given
from hypothesis import strategies as st

from maxgate.admission.ledger import allocate_slots, create_holder_id, find_water_level

Demands = Mapping[str, Mapping[str, int]]

DEMANDS = st.dictionaries(
    st.sampled_from("ABCDEFGH"),
    st.dictionaries(st.sampled_from("stuvwxyz"), st.integers(0, 50), max_size=8),
    min_size=1,
    max_size=8,
)


def sum_tenants(demands: Demands) -> dict[str, int]:
    """Return the demand of each tenant at all holders."""
    totals: dict[str, int] = {}
    for demand in demands.values():
        for tenant, count in demand.items():
            totals[tenant] = totals.get(tenant, 0) + count
    return totals


@given(capacity=st.integers(0, 200), demands=DEMANDS, turn=st.integers(0, 2_000_000_000))
def test_bounds(capacity: int, demands: Demands, turn: int) -> None:
    """All slots that anyone can use are given out, nobody gets more than it can use."""
    slots = allocate_slots(capacity, demands, turn=turn)

    wanted = {holder: sum(demand.values()) for holder, demand in demands.items()}
    assert sum(slots.values()) == min(capacity, sum(wanted.values()))
    assert all(0 <= slots[holder] <= wanted[holder] for holder in wanted)
    assert slots.keys() == demands.keys()


@given(capacity=st.integers(0, 200), demands=DEMANDS)
def test_starvation(capacity: int, demands: Demands) -> None:
    """If there is a slot for each busy holder, each gets one."""
    slots = allocate_slots(capacity, demands)

    busy = [holder for holder, demand in demands.items() if sum(demand.values())]
    assert capacity < len(busy) or all(slots[holder] for holder in busy)


@given(capacity=st.integers(1, 8), demands=DEMANDS, start=st.integers(0, 2_000_000_000))
def test_turns(capacity: int, demands: Demands, start: int) -> None:
    """If there are fewer slots than busy holders, each has its part of the time."""
    turns = 200
    taken = Counter[str]()
    for turn in range(start, start + turns):
        taken.update(allocate_slots(capacity, demands, turn=turn))

    totals = sum_tenants(demands)
    level = find_water_level(capacity, totals)
    if capacity < sum(1 for demand in demands.values() if sum(demand.values())):
        for holder, demand in demands.items():
            part = sum(n * min(1, level / totals[tenant]) for tenant, n in demand.items() if n)
            assert abs(taken[holder] - part * turns) <= 6


@given(capacity=st.integers(0, 200), demands=DEMANDS, order=st.randoms())
def test_order(capacity: int, demands: Demands, order: st.DataObject) -> None:
    """The order of holders and tenants does not matter."""

    def shuffle(mapping: Mapping[str, object]) -> dict[str, object]:
        items = list(mapping.items())
        order.shuffle(items)
        return dict(items)

    shuffled = shuffle({holder: shuffle(demand) for holder, demand in demands.items()})
    assert allocate_slots(capacity, shuffled) == allocate_slots(capacity, demands)


@given(capacity=st.integers(1, 200), demands=DEMANDS)
def test_max_min_fairness(capacity: int, demands: Demands) -> None:
    """The parts of tenants fill the capacity: each has its demand, or as much as the others."""
    totals = sum_tenants(demands)
    level = find_water_level(capacity, totals)

    parts = {tenant: min(total, level) for tenant, total in totals.items()}
    assert isclose(sum(parts.values()), min(capacity, sum(totals.values())))
    assert all(
        part == totals[tenant] or part == max(parts.values()) for tenant, part in parts.items()
    )


@given(capacity=st.integers(1, 200), demands=DEMANDS)
def test_holders(capacity: int, demands: Demands) -> None:
    """A holder gets the parts of its tenants, within one slot and those that starving ones take."""
    slots = allocate_slots(capacity, demands)

    totals = sum_tenants(demands)
    level = find_water_level(capacity, totals)
    for holder, demand in demands.items():
        exact = sum(
            count * min(1, level / totals[tenant]) for tenant, count in demand.items() if count
        )
        assert exact - len(demands) <= slots[holder] < exact + 1 or slots[holder] == 1


@given(
    capacity=st.integers(0, 200), demands=DEMANDS, headroom=st.floats(0, 1, allow_subnormal=False)
)
def test_headroom(capacity: int, demands: Demands, headroom: float) -> None:
    """Free slots are spread evenly over busy holders, and each idle one gets at most one."""
    slots = allocate_slots(capacity, demands, headroom=headroom)
    without = allocate_slots(capacity, demands)

    extra = {slots[holder] - without[holder] for holder, d in demands.items() if sum(d.values())}
    free = capacity - sum(without.values())
    assert sum(slots.values()) - sum(without.values()) <= free * headroom
    assert len(extra) <= 1 or free == 0
    idle = 1 if int(free * headroom) >= len(demands) else 0
    assert {slots[name] for name, d in demands.items() if not sum(d.values())} <= {idle}


def test_examples() -> None:
    """The tenant with ten times the requests has half of the slots, on both holders together."""
    demands = {"A": {"heavy": 50, "light": 5}, "B": {"heavy": 50, "light": 5}}

    assert allocate_slots(10, demands) == {"A": 5, "B": 5}
    assert allocate_slots(10, {"A": {"heavy": 100}, "B": {"light": 10}}) == {"A": 5, "B": 5}
    assert allocate_slots(3, demands) == {"A": 2, "B": 1}
    assert allocate_slots(1, demands) == {"A": 1, "B": 0}
    assert allocate_slots(12, {"A": {"a": 2}, "B": {"b": 1}, "C": {}}, headroom=0.5) == {
        "A": 3,
        "B": 2,
        "C": 1,
    }


def test_water_level() -> None:
    """The level is infinite if there is enough for all."""
    assert [find_water_level(n, {"a": 1, "b": 5, "c": 0, "d": 9}) for n in (3, 9, 14, 15, 16)] == [
        1,
        4,
        8,
        9,
        inf,
    ]


def test_holder_ids() -> None:
    """Ids are unique and sort by the time of the start."""
    ids = [create_holder_id(seconds) for seconds in (1.0, 1.5, 1_800_000_000.0, 1_800_000_000.0)]

    assert len(set(ids)) == 4
    assert sorted(ids)[:3] == [*ids[:2], min(ids[2:])]
