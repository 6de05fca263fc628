"""Keep the admin API to clients on the gateway's own machine, and to keys of admins.

With authentication, the caller needs the key of an admin, too. A web page and
a reverse proxy on the same machine are loopback peers, too. A page is recognized by Origin, by
Sec-Fetch-Site where browsers leave Origin out (images, links), or by the Host of its own domain
(DNS rebinding). A proxy is recognized by the headers that it adds.

OpenAI's admin API and LiteLLM's need the key of an admin only: they do not exist without
authentication.
"""

from typing import Final

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send
from typing_extensions import override

from maxgate.api.browsers import is_loopback, parse_name
from maxgate.api.middleware import get_route_path
from maxgate.auth.identity import NoAdminAccess
from maxgate.errors import Forbidden

# Those beside /admin are llama-swap's.
_ADMIN_PATHS: Final = ("/admin/", "/running/", "/api/models/unload/")
# Those beside OpenAI's are LiteLLM's.
_ORGANIZATION_PATHS: Final = ("/v1/organization/", "/key/", "/spend/")
# Headers in which proxies name the client; all that start with `x-forwarded` as well.
_FORWARDING: Final = frozenset(
    {
        "forwarded",
        "via",
        "x-real-ip",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-envoy-external-address",
        "x-original-forwarded-for",
        "true-client-ip",
        "cf-connecting-ip",
    }
)
# Values of Sec-Fetch-Site for the address bar and for the gateway's own pages.
_OWN_SITE: Final = frozenset({b"none", b"same-origin"})
_WAY_OUT: Final = "Send the request on the gateway's own machine, to http://127.0.0.1 and its port."


class AdminGuard:
    """Refuses requests to the admin API unless they come directly from an admin on this machine.

    The peer and the only Host header must be loopback. Headers of proxies and of web pages must be
    absent.
    Applies to every method and to unknown paths. Clients of a Unix socket are refused, because the
    socket may be that of a proxy.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if is_admin_path(scope):
            check_local(scope)
            if not scope["state"]["context"].is_admin:
                raise NoAdminAccess
        elif is_organization_path(scope) and not scope["state"]["context"].is_admin:
            raise NoAdminAccess
        await self._app(scope, receive, send)


class PublicCors(CORSMiddleware):
    """CORS for all paths but those of the admin API, where preflights are refused."""

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if is_admin_path(scope):
            await self.app(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def is_admin_path(scope: Scope) -> bool:
    """Whether the request is for a path of the admin API, or below one."""
    if scope["type"] != "http":
        return False
    return f"{get_route_path(scope)}/".startswith(_ADMIN_PATHS)


def is_organization_path(scope: Scope) -> bool:
    """Whether the request is for a path of OpenAI's admin API or of LiteLLM's, or below one."""
    if scope["type"] != "http":
        return False
    return f"{get_route_path(scope)}/".startswith(_ORGANIZATION_PATHS)


def check_local(scope: Scope) -> None:
    """Raise Forbidden unless the request comes directly from a client on this machine."""
    peer = (scope.get("client") or ("",))[0]
    if not is_loopback(peer):
        where = f"comes from {peer}" if peer else "comes over a Unix socket"
        raise _refuse(where)
    hosts: list[str] = []
    for raw, value in scope["headers"]:
        name = raw.decode("latin-1").lower().replace("_", "-")
        if name == "host":
            hosts.append(parse_name(value))
        elif name == "origin":
            raise _refuse("has an Origin header, as those of web pages do")
        elif name == "sec-fetch-site" and value not in _OWN_SITE:
            raise _refuse("comes from a web page of another site")
        elif name in _FORWARDING or name.startswith("x-forwarded"):
            raise _refuse(f"has the header {name[:50]!r}, which proxies add")
    if len(hosts) != 1 or not (hosts[0] == "localhost" or is_loopback(hosts[0])):
        shown = ", ".join(repr(host[:100]) for host in hosts) or "missing"
        raise _refuse(f"has another Host than localhost or a loopback address: {shown}")


def _refuse(reason: str) -> Forbidden:
    return Forbidden(
        f"The admin API serves only this machine, and the request {reason}. {_WAY_OUT}"
    )
