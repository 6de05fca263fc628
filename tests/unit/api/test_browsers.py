"""Web pages on other sites cannot use the gateway."""

from typing import Any

import pytest

from maxgate.api.browsers import BrowserGuard
from maxgate.errors import Forbidden
from tests.fakes.asgi import http_scope

LOOPBACK = ("127.0.0.1", 8000)
GUARD = BrowserGuard(["localhost", "*.localhost", "gateway.example"], ["https://chat.example"])


def scope(method: str = "GET", server: Any = LOOPBACK, **headers: str) -> dict[str, Any]:
    """Return the scope of a request with these headers."""
    encoded = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {**http_scope(method, headers=encoded), "server": server}


@pytest.mark.parametrize(
    ("host", "is_allowed"),
    [
        ("localhost:8000", True),
        ("LOCALHOST", True),
        ("a.localhost", True),
        ("127.0.0.1:8000", True),
        ("192.168.0.7", True),
        ("[::1]:8000", True),
        ("max", True),
        ("gateway.example.", True),
        ("", True),
        ("attacker.example:8000", False),
        ("localhost.attacker.example", False),
        ("127.0.0.1.attacker.example", False),
        ("xgateway.example", False),
    ],
)
def test_host(host: str, *, is_allowed: bool) -> None:
    """On a loopback address, only known names, addresses and names without a dot are accepted."""
    assert is_accepted(scope(host=host)) is is_allowed


@pytest.mark.parametrize(
    "server", [None, ("testserver", 80), ("10.0.0.7", 8000), ("/socket", None)]
)
def test_other_addresses(server: Any) -> None:
    """Other addresses accept any Host, as does the name `*`."""
    assert is_accepted(scope(host="any.example", server=server))
    check(BrowserGuard(["*"], []), scope(host="any.example"))


def check(guard: BrowserGuard, request: dict[str, Any]) -> None:
    """Run both checks."""
    headers = dict(request["headers"])
    if request["server"]:
        guard.check_host(request["server"][0], headers.get(b"host", b""))
    if origin := headers.get(b"origin"):
        guard.check_origin(request, origin, headers.get(b"host", b""))


def is_accepted(request: dict[str, Any]) -> bool:
    """Return whether the guard accepts the request."""
    try:
        check(GUARD, request)
    except Forbidden:
        return False
    return True


@pytest.mark.parametrize(
    ("method", "headers", "is_allowed"),
    [
        ("POST", {"origin": "https://attacker.example"}, False),
        ("POST", {"origin": "null"}, False),
        ("POST", {"origin": "https://["}, False),
        ("POST", {"origin": "https://attacker.example", "content_type": "text/plain"}, False),
        ("DELETE", {"origin": "https://attacker.example"}, False),
        ("GET", {"origin": "https://attacker.example"}, True),
        ("POST", {"origin": "https://attacker.example", "content_type": "application/json"}, True),
        ("POST", {"origin": "http://localhost:3000"}, True),
        ("POST", {"origin": "https://chat.example"}, True),
        ("POST", {}, True),
    ],
)
def test_origin(method: str, headers: dict[str, str], *, is_allowed: bool) -> None:
    """A cross-site request that needs no preflight is refused, unless its origin is known."""
    assert is_accepted(scope(method, host="localhost:8000", **headers)) is is_allowed
