"""Forwarding headers count only if a trusted proxy sends them."""

from typing import Any

import pytest

from maxgate.api.connection import EXTENSION
from maxgate.api.proxies import UNKNOWN, TrustedProxies
from tests.fakes.asgi import http_scope

PROXIES = TrustedProxies(["10.0.0.0/8", "::1", "127.0.0.1"])
Headers = list[tuple[str, str]]


def scope(headers: Headers, peer: tuple[str, int] | None = ("10.0.0.1", 5)) -> dict[str, Any]:
    """Return the scope of a request of this peer."""
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    return {**http_scope(headers=encoded), "client": peer, "extensions": {EXTENSION: None}}


@pytest.mark.parametrize(
    ("headers", "address"),
    [
        ([], "10.0.0.1"),
        ([("x-forwarded-for", "8.8.8.8")], "8.8.8.8"),
        ([("x-forwarded-for", "1.1.1.1, 8.8.8.8")], "8.8.8.8"),
        ([("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "8.8.8.8")], "8.8.8.8"),
        ([("x-forwarded-for", "1.1.1.1, 8.8.8.8, 10.0.0.2")], "8.8.8.8"),
        ([("x-forwarded-for", "10.0.0.3, 10.0.0.2")], "10.0.0.3"),
        ([("x-forwarded-for", "8.8.8.8:443")], "8.8.8.8"),
        ([("x-forwarded-for", "[2001:db8::1]:443")], "2001:db8::1"),
        ([("x-forwarded-for", "2001:db8::1")], "2001:db8::1"),
        ([("x-forwarded-for", "::ffff:8.8.8.8")], "8.8.8.8"),
        ([("x-forwarded-for", "1.1.1.1, unknown")], UNKNOWN),
        ([("x-forwarded-for", "1.1.1.1,")], UNKNOWN),
        ([("x-forwarded-for", "8.8.8.8\n2")], UNKNOWN),
        ([("x-forwarded-for", "a" * 9000)], UNKNOWN),
        ([("forwarded", "for=8.8.8.8")], "8.8.8.8"),
        ([("forwarded", 'for=1.1.1.1, For="[2001:db8::1]:80";proto=https')], "2001:db8::1"),
        ([("forwarded", "for=1.1.1.1, for=_hidden")], UNKNOWN),
        ([("forwarded", "for=1.1.1.1;for=8.8.8.8")], UNKNOWN),
        ([("forwarded", 'for="8.8.8.8')], UNKNOWN),
        ([("forwarded", "for=8.8.8.8"), ("x-forwarded-for", "8.8.8.8")], "8.8.8.8"),
        ([("forwarded", "for=1.1.1.1"), ("x-forwarded-for", "8.8.8.8")], UNKNOWN),
        ([("x-real-ip", "8.8.8.8"), ("x_forwarded_for", "8.8.8.8")], "10.0.0.1"),
    ],
)
def test_address(headers: Headers, address: str) -> None:
    """The client is the rightmost address that is no proxy; contradictions make it unknown."""
    assert PROXIES.find_address(scope(headers)) == address


@pytest.mark.parametrize("peer", ["8.8.4.4", "11.0.0.1", "2001:db8::2"])
@pytest.mark.parametrize("name", ["x-forwarded-for", "forwarded"])
def test_spoofed(peer: str, name: str) -> None:
    """Headers of other peers have no effect."""
    value = "127.0.0.1" if name == "x-forwarded-for" else "for=127.0.0.1;proto=https"
    spoofed = scope([(name, value), ("x-forwarded-proto", "https")], (peer, 5))
    assert PROXIES.find_address(spoofed) == peer
    assert not PROXIES.is_https(spoofed)


@pytest.mark.parametrize("peer", [None, ("8.8.8.8", 0), ("8.8.8.8", 443), ("text", 0)])
def test_unknown_peer(peer: tuple[str, int] | None) -> None:
    """An address that uvicorn took from a header is not trusted, nor is that of a socket."""
    forged = scope([("x-forwarded-for", "8.8.8.8:443, 10.0.0.1, text")], peer)
    assert PROXIES.find_address({**forged, "extensions": {}}) == UNKNOWN


@pytest.mark.parametrize(
    ("headers", "is_https"),
    [
        ([], False),
        ([("x-forwarded-proto", "https")], True),
        ([("x-forwarded-proto", "https, http")], False),
        ([("forwarded", "for=8.8.8.8;proto=https")], True),
        ([("forwarded", "proto=https, for=8.8.8.8")], False),
    ],
)
def test_https(headers: Headers, *, is_https: bool) -> None:
    """The protocol is the one that the nearest proxy names."""
    assert PROXIES.is_https(scope(headers)) is is_https
