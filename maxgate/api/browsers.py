"""Refuse requests that web pages make without the user's knowledge.

Without authentication, a page that the user visits could use the gateway on the same machine: by a
cross-site request that browsers send without asking first (CORS "simple" requests), or after
pointing its own domain name to a loopback address (DNS rebinding).
"""

import ipaddress
from collections.abc import Sequence
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from starlette.types import Scope

from maxgate.errors import Forbidden

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class BrowserGuard:
    """Checks the Host and Origin headers.

    `allowed_hosts` are domain names, `*.example.org` for all below one, or `*`. They apply where
    the server's own address is loopback. `cors_origins` may send cross-site requests.
    """

    def __init__(self, allowed_hosts: Sequence[str], cors_origins: Sequence[str]) -> None:
        self._names = frozenset(name.lower() for name in allowed_hosts)
        self._suffixes = tuple(name[1:].lower() for name in allowed_hosts if name[:2] == "*.")
        self._origins = frozenset(cors_origins)
        # Cached, because every request is checked.
        self.check_host = lru_cache(maxsize=256)(self._check_host)

    def _check_host(self, address: str, host: bytes) -> None:
        """Raise Forbidden for a foreign Host at this address of the server."""
        if is_loopback(address) and not self._is_allowed(host):
            raise Forbidden(
                f"The host {parse_name(host)!r} is not allowed. Add it to the setting "
                "server.allowed_hosts if it is a name of this gateway."
            )

    def _is_allowed(self, host: bytes) -> bool:
        name = parse_name(host)
        # Public DNS has no names without a dot, and browsers do not resolve addresses.
        if "." not in name or name in self._names or "*" in self._names or _is_address(name):
            return True
        return name.endswith(self._suffixes)

    def check_origin(self, scope: Scope, value: bytes, host: bytes) -> None:
        """Raise Forbidden for a request from another site that browsers send without preflight."""
        origin = value.decode("latin-1")
        if scope["method"] in _SAFE_METHODS or origin in self._origins or "*" in self._origins:
            return
        for name, content_type in scope["headers"]:
            # Browsers send JSON to other sites only after a successful preflight.
            if name == b"content-type" and content_type.lower().startswith(b"application/json"):
                return
        try:
            is_same_site = urlsplit(origin).hostname == parse_name(host)
        except ValueError:
            is_same_site = False
        if not is_same_site:
            raise Forbidden(
                f"The origin {origin[:100]!r} is not allowed. Add it to the setting "
                "server.cors_origins, or send Content-Type: application/json."
            )


@lru_cache(maxsize=256)
def parse_name(host: bytes) -> str:
    """Return the name or address in a Host header, in lower case, without port and final dot."""
    text = host.decode("latin-1").lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0].removesuffix(".")


@lru_cache(maxsize=256)
def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=256)
def is_public(address: str) -> bool:
    """Whether other machines may reach this address; names and paths of sockets are no address."""
    return _is_address(address) and not is_loopback(address)


@lru_cache(maxsize=256)
def is_loopback(address: str) -> bool:
    """Whether this is a loopback address, also an IPv4 one that is mapped to IPv6."""
    if not _is_address(address):
        return False
    parsed = ipaddress.ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback
