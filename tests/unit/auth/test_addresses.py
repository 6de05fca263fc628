"""Failures are counted by address in bounded memory, and allow-lists hold for mapped addresses."""

import pytest

from maxgate.auth import addresses
from maxgate.auth.addresses import MAX_ADDRESSES, WINDOW, FailureLimit, is_within
from tests.fakes.clock import FakeClock


def test_limit() -> None:
    """Failures above the limit get the time until the window ends; the next window is new."""
    clock = FakeClock()
    limit = FailureLimit(2, clock)

    assert [limit.add("10.0.0.1") for _ in range(3)] == [None, None, WINDOW]
    clock.advance(20)
    assert limit.add("10.0.0.1") == WINDOW - 20
    assert limit.add("10.0.0.2") is None
    clock.advance(WINDOW - 20)
    assert [limit.add("10.0.0.1") for _ in range(3)] == [None, None, WINDOW]


def test_ipv6() -> None:
    """The addresses of one IPv6 network count together, and a mapped address as IPv4."""
    limit = FailureLimit(1, FakeClock())

    assert limit.add("2001:db8::1") is None
    assert limit.add("2001:db8::ffff:2") == WINDOW
    assert limit.add("2001:db8:0:1::1") is None
    assert limit.add("10.0.0.1") is None
    assert limit.add("::ffff:10.0.0.1") == WINDOW
    assert limit.add("") is None  # a Unix socket
    assert limit.add("") == WINDOW


def test_memory() -> None:
    """The addresses that failed last are kept."""
    limit = FailureLimit(1, FakeClock())
    for number in range(MAX_ADDRESSES + 10):
        limit.add(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")

    assert len(limit._windows) == MAX_ADDRESSES
    assert limit.add("10.0.0.0") is None
    assert limit.add(f"10.0.{(MAX_ADDRESSES + 9) >> 8}.{(MAX_ADDRESSES + 9) & 255}") == WINDOW
    assert addresses._group.cache_info().maxsize is not None


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("::ffff:a01:203", True),
        ("11.0.0.1", False),
        ("::10.1.2.3", False),
        ("2001:db8::5", True),
        ("2001:db9::5", False),
        ("fe80::1%eth0", True),
        ("", False),
        ("/run/gateway.sock", False),
        ("office", False),
    ],
)
def test_networks(address: str, *, expected: bool) -> None:
    """Membership is that of addresses; what is no address is in no network."""
    assert is_within(("10.0.0.0/8", "2001:db8::/32", "fe80::/10"), address) is expected


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ("::ffff:10.1.2.3", True),
        ("::ffff:10.0.0.0/104", True),
        ("::ffff:0:0/96", True),
        ("::ffff:11.0.0.0/104", False),
        ("::/0", False),
    ],
)
def test_mapped_networks(network: str, *, expected: bool) -> None:
    """A network of mapped addresses has the IPv4 ones; IPv6 ones have none."""
    assert is_within((network,), "10.1.2.3") is expected
    assert is_within((network,), "::ffff:10.1.2.3") is expected
