"""The admin API at a listener of its own."""

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from maxgate.api.loopback import is_admin_path, is_organization_path
from maxgate.api.middleware import get_route_path
from maxgate.errors import NotFound

_HEALTH_PATHS: Final = ("/health/",)


class AdminListener:
    """Serves the admin API at `port` only, and nothing else there but the health checks."""

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        self._port = port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection; raises NotFound for a path of the other listener."""
        if scope["type"] == "http":
            path = f"{get_route_path(scope)}/"
            is_admin = is_admin_path(scope) or is_organization_path(scope)
            at_admin = (scope.get("server") or ("", 0))[1] == self._port
            if is_admin != at_admin and not path.startswith(_HEALTH_PATHS):
                other = "the listener of admin.port" if is_admin else "another listener"
                raise NotFound(f"This path is served by {other} of the gateway only.")
        await self._app(scope, receive, send)
