"""Find the address of a client behind trusted proxies, and whether it used https.

This is the only place that reads forwarding headers. Everyone can send them, so they count only if
the peer is a trusted proxy, and then from the right: each proxy appends the address of its peer.
"""

import re
from collections.abc import Sequence
from typing import Final

from starlette.types import Scope

from maxgate.api.connection import EXTENSION
from maxgate.auth.addresses import is_within, parse_address

UNKNOWN: Final = ""
"""The address of a client that cannot be known; no network contains it."""

# RFC 7239, section 4: `name=token` or `name="text"`, separated by semicolons.
_PAIR: Final = re.compile(r'\s*(\w+)=("[^"\\]*"|[^\s";,]*)\s*')
_ADDRESS: Final = re.compile(r"\[([^\]]*)\](?::\d+)?|([\d.]+)(?::\d+)?|([0-9A-Fa-f:.]+)")


class TrustedProxies:
    """Proxies by their addresses and networks; without any, forwarding headers are ignored."""

    def __init__(self, networks: Sequence[str] = ()) -> None:
        self._networks = tuple(networks)

    def find_address(self, scope: Scope) -> str:
        """Return the address of the client: the first one from the right that is no proxy.

        UNKNOWN if the peer is not known, or if a trusted proxy names no address or two of them.
        """
        peer = _find_peer(scope)
        if not is_within(self._networks, peer):
            return peer
        chains: list[list[str]] = []
        if forwarded_for := _read(scope, b"x-forwarded-for"):
            chains.append(forwarded_for.split(","))
        if forwarded := _read(scope, b"forwarded"):
            chains.append([_read_pair(element, "for") for element in forwarded.split(",")])
        found = {self._walk(chain, peer) for chain in chains}
        # A proxy that sets one header passes on the other one, as the client has sent it.
        return found.pop() if len(found) == 1 else UNKNOWN if found else peer

    def is_https(self, scope: Scope) -> bool:
        """Whether the client used https, by the connection or as the trusted proxy says."""
        if not is_within(self._networks, _find_peer(scope)):
            # Plain uvicorn sets the scheme by this header.
            is_own = _is_own_server(scope) or not _read(scope, b"x-forwarded-proto")
            return is_own and bool(scope.get("scheme") == "https")
        proto = _read(scope, b"x-forwarded-proto").rpartition(",")[2].strip()
        element = _read(scope, b"forwarded").rpartition(",")[2]
        return (proto or _read_pair(element, "proto")).lower() == "https"

    def _walk(self, chain: Sequence[str], peer: str) -> str:
        address = peer
        for hop in reversed(chain):
            address = _parse_hop(hop)
            if address == UNKNOWN or not is_within(self._networks, address):
                break
        return address


def _find_peer(scope: Scope) -> str:
    """Return the address of the peer, UNKNOWN if it is that of a socket or may be forged.

    Plain uvicorn replaces the address by one in X-Forwarded-For if it trusts the peer, and its own
    rules are not those of the gateway.
    """
    peer = parse_address((scope.get("client") or ("",))[0])
    hops = () if _is_own_server(scope) else _read(scope, b"x-forwarded-for").split(",")
    if peer is None or str(peer) in map(_parse_hop, hops):
        return UNKNOWN
    return str(peer)


def _is_own_server(scope: Scope) -> bool:
    return EXTENSION in scope.get("extensions", {})


def _read(scope: Scope, name: bytes) -> str:
    values = [value for header, value in scope["headers"] if header == name]
    return b",".join(values).decode("latin-1")


def _read_pair(element: str, name: str) -> str:
    """Return a value of one element of `Forwarded`, empty if it has none or is malformed."""
    pairs = [_PAIR.fullmatch(pair) for pair in element.split(";")]
    values = [pair[2].strip('"') for pair in pairs if pair and pair[1].lower() == name]
    return values[0] if len(values) == 1 and all(pairs) else ""


def _parse_hop(hop: str) -> str:
    """Return the address in one entry, without its port; UNKNOWN if it has none."""
    match = _ADDRESS.fullmatch(hop.strip())
    address = parse_address(next(filter(None, match.groups()), "")) if match else None
    return UNKNOWN if address is None else str(address)
