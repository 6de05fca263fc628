"""Leases that are read from storage, and the news about served tokens."""

import pytest

from maxgate.admission.lease_table import GrantBuilder, Lease, LeaseTable, Renewal, Served
from maxgate.admission.ledger import OTHER_TENANTS, Grant, Holding

BUSY = Holding(4, 0, {"a": 9}, {})


def test_reboot() -> None:
    """Times of before a reboot, which lie far in the future, count as expired."""
    table = LeaseTable({"old": Lease(9e5, 4, 4, 4, {"a": 4})}, {"a": Served(3, 9e5)}, 9e5)

    renewal = table.renew("new", BUSY, held=0, now=5.0)

    assert renewal == Renewal(4, 4, True, 4, 0, {})
    assert table == LeaseTable({"new": Lease(15, 4, 0, 4, {"a": 9})}, {}, 0)


def test_even_share() -> None:
    """Slots without a ledger are an even part of the capacity, at least one."""
    table = LeaseTable()
    shares = [table.renew(name, BUSY, held=0, now=1.0).even_share for name in "ABCDE"]

    assert shares == [4, 2, 1, 1, 1]


@pytest.mark.parametrize(
    ("own", "served"),
    [
        ({"a": 4.0}, {OTHER_TENANTS: 7.0}),
        ({"a": 1.0, "folded": 5.0}, {"a": 3.0, OTHER_TENANTS: 2.0}),
        ({"a": 1.0, "folded": 5.0, OTHER_TENANTS: 2.0}, {"a": 3.0}),
    ],
)
def test_own_tokens(own: dict[str, float], served: dict[str, float]) -> None:
    """Own tokens are not news, even if the tenant is not told apart."""
    builder = GrantBuilder()
    builder.build("m", Renewal(1, 1, False, 1, 0, {}), {})

    grant = builder.build("m", Renewal(1, 1, False, 1, 0, {"a": 4.0, OTHER_TENANTS: 7.0}), own)

    assert grant == Grant(1, 1, served, False)


def test_restarted_totals() -> None:
    """A total that is smaller than before has started again from zero."""
    builder = GrantBuilder()
    for total in (8.0, 3.0):
        grant = builder.build("m", Renewal(1, 1, False, 1, 0, {"a": total}), {"a": 1.0})

    assert grant.served == {"a": 2.0}


@pytest.mark.parametrize("tokens", [-1.0, 0.0, float("nan")])
def test_senseless_tokens(tokens: float) -> None:
    """Only positive numbers of tokens are added."""
    table = LeaseTable()
    table.renew("A", Holding(1, 0, {"a": -3}, {"a": tokens}), held=0, now=1.0)

    assert table == LeaseTable({"A": Lease(11, 0, 0, 1, {})}, {}, 0)
