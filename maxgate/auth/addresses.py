"""Addresses of clients: the limit of their failed authentications, and allow-lists."""

from collections import OrderedDict
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final

from maxgate.clock import Clock

WINDOW: Final = 60.0
"""Seconds for which failures count, from the first one of an address."""
MAX_ADDRESSES: Final = 10_000

_MAPPED_PREFIX: Final = 96  # length of ::ffff:0:0/96, which has all IPv4 addresses
_IPV6_PREFIX: Final = 64  # an IPv6 client chooses the other bits


class FailureLimit:
    """Bounds the failures of an address in a window; the addresses are those that failed last."""

    def __init__(self, max_failures: int, clock: Clock) -> None:
        self._max = max_failures
        self._clock = clock
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def add(self, address: str) -> float | None:
        """Count a failure; returns the seconds until the window ends if the limit is exceeded."""
        key, now = _group(address), self._clock.monotonic()
        ends_at, count = self._windows.pop(key, (0.0, 0))
        if now >= ends_at:
            ends_at, count = now + WINDOW, 0
        self._windows[key] = ends_at, count + 1
        if len(self._windows) > MAX_ADDRESSES:
            self._windows.popitem(last=False)
        return ends_at - now if count >= self._max else None


@lru_cache(maxsize=4096)
def is_within(networks: tuple[str, ...], address: str) -> bool:
    """Whether the address is in one of the networks; IPv4 ones that are mapped to IPv6 are IPv4."""
    parsed = parse_address(address)
    return parsed is not None and any(parsed in _parse_network(network) for network in networks)


def _parse_network(text: str) -> IPv4Network | IPv6Network:
    network = ip_network(text)
    if isinstance(network, IPv6Network) and network.prefixlen >= _MAPPED_PREFIX:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - _MAPPED_PREFIX))
    return network


def parse_address(address: str) -> IPv4Address | IPv6Address | None:
    """Parse an address; None if it is not one. An IPv4 one that is mapped to IPv6 is IPv4."""
    try:
        parsed = ip_address(address.partition("%")[0])  # without the zone of a link-local address
    except ValueError:  # a Unix socket
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return mapped or parsed


@lru_cache(maxsize=1024)
def _group(address: str) -> str:
    parsed = parse_address(address)
    if isinstance(parsed, IPv6Address):
        return str(ip_network((parsed, _IPV6_PREFIX), strict=False))
    return str(parsed)
