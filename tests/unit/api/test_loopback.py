"""The admin API answers only to clients on the same machine, whatever the method."""

from typing import Any

import pytest

from maxgate.api.loopback import check_local, is_admin_path
from maxgate.errors import Forbidden
from tests.fakes.asgi import http_scope

HOST = (b"host", b"127.0.0.1:8000")
LOCAL_PEERS = [("127.0.0.1", 4000), ("127.8.9.1", 4000), ("::1", 4000), ("::ffff:127.0.0.1", 4000)]
LOCAL_HOSTS = [b"localhost", b"LOCALHOST:8000", b"127.0.0.1", b"[::1]:8000", b"[::ffff:127.0.0.1]"]
FOREIGN_PEERS = [
    ("10.0.0.5", 4000),
    ("::ffff:10.0.0.5", 4000),
    ("2001:db8::1", 4000),
    ("localhost.example", 4000),
    ("", 0),
    None,
]
FOREIGN_HOSTS = [
    b"attacker.example",
    b"localhost.attacker.example",
    b"127.0.0.1.attacker.example",
    b"app.localhost",
    b"0.0.0.0:8000",
    b"192.168.1.5",
    b"127.1",
    b"2130706433",
    b"0x7f000001",
    b"[::]",
    b"user@localhost",
    b"localhost, attacker.example",
    b"",
]
PROXY_HEADERS = [
    b"X-Forwarded-For",
    b"x-forwarded-host",
    b"x-forwarded-anything",
    b"x-forwarded",
    b"x_forwarded_for",
    b"forwarded",
    b"FORWARDED",
    b"x-real-ip",
    b"X_Real_IP",
    b"via",
    b"origin",
]


def admin_scope(client: Any = LOCAL_PEERS[0], headers: Any = (HOST,)) -> dict[str, Any]:
    """The scope of a request to the admin API."""
    return {**http_scope(path="/admin/engines", headers=headers), "client": client}


@pytest.mark.parametrize("peer", LOCAL_PEERS)
@pytest.mark.parametrize("host", LOCAL_HOSTS)
def test_local(peer: tuple[str, int], host: bytes) -> None:
    """Loopback peers that name a loopback host pass."""
    check_local(admin_scope(peer, [(b"host", host)]))


@pytest.mark.parametrize("peer", FOREIGN_PEERS)
def test_foreign_peer(peer: tuple[str, int] | None) -> None:
    """Other machines and clients of a Unix socket are refused."""
    with pytest.raises(Forbidden):
        check_local(admin_scope(peer))


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_foreign_host(host: bytes) -> None:
    """A Host that is not `localhost` or a loopback address is refused."""
    with pytest.raises(Forbidden):
        check_local(admin_scope(headers=[(b"host", host)]))


@pytest.mark.parametrize("headers", [[], [HOST, HOST], [HOST, (b"Host", b"attacker.example")]])
def test_number_of_hosts(headers: list[tuple[bytes, bytes]]) -> None:
    """A request without a Host, or with two, is refused."""
    with pytest.raises(Forbidden):
        check_local(admin_scope(headers=headers))


@pytest.mark.parametrize("name", PROXY_HEADERS)
@pytest.mark.parametrize("value", [b"", b"127.0.0.1"])
def test_proxies_and_pages(name: bytes, value: bytes) -> None:
    """Headers of proxies and web pages are refused in any spelling and with any value."""
    with pytest.raises(Forbidden, match="serves only this machine"):
        check_local(admin_scope(headers=[HOST, (name, value)]))


@pytest.mark.parametrize("site", [b"none", b"same-origin"])
def test_own_pages(site: bytes) -> None:
    """A browser's address bar and the pages in /docs pass."""
    check_local(admin_scope(headers=[HOST, (b"sec-fetch-site", site)]))


@pytest.mark.parametrize(
    ("path", "root_path", "is_admin"),
    [
        ("/admin", "", True),
        ("/admin/", "", True),
        ("/admin/engines", "", True),
        ("/admin/nowhere", "", True),
        ("/gateway/admin/engines", "/gateway", True),
        ("/admin/engines", "/gateway", True),
        ("/running", "", True),
        ("/running/", "", True),
        ("/api/models/unload", "", True),
        ("/api/models/unload/org/model", "", True),
        ("/gateway/api/models/unload", "/gateway", True),
        ("/administrators", "", False),
        ("/running-models", "", False),
        ("/api/models", "", False),
        ("/v1/running", "", False),
        ("/v1/chat/completions", "", False),
    ],
)
def test_paths(path: str, root_path: str, is_admin: bool) -> None:
    """Paths of the admin API and those below are guarded, also below a prefix."""
    assert is_admin_path({**http_scope(path=path), "root_path": root_path}) is is_admin
