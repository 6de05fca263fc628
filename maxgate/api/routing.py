"""Routes: what FastAPI documents, and the table that requests are looked up in.

FastAPI's own handling of a request costs more than the rest of the gateway together. What it knows
of types is good for the OpenAPI page; the requests themselves go straight to their handlers.
"""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fastapi.routing import APIRoute

from maxgate.api.errors import ErrorResponse
from maxgate.api.request_body import Receive, Scope, Send
from maxgate.errors import MethodNotAllowed, NotFound

Handler = Callable[[Scope, Receive, Send], Awaitable[None]]
_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    "4XX": {"model": ErrorResponse, "description": "The request cannot be served."},
    "5XX": {"model": ErrorResponse, "description": "The engine or the gateway failed."},
}


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path.

    A path may end in `{name}`, which takes all that follows, slashes too, into
    `scope["path_params"]`. `body` and `response` are the types of the OpenAPI page, whose text is
    the handler's docstring; `also` are the content types of answers that are no JSON.
    """

    method: str
    path: str
    handler: Handler
    tag: str
    response: Any = None
    body: type | None = None
    also: tuple[str, ...] = ()

    def documented(self) -> APIRoute:
        """The route as FastAPI knows it."""
        name = self.handler.__name__
        return APIRoute(
            self.path.replace("}", ":path}"),
            _endpoint(self),
            methods=[self.method],
            tags=[self.tag],
            response_model=self.response,
            responses={200: {"content": {kind: {} for kind in self.also}}, **_ERRORS},
            operation_id=name if self.method != "POST" or self.body else f"{name}_post",
        )


class RouteTable:
    """Finds the route of a request.

    Raises NotFound, and MethodNotAllowed where only the method does not fit.
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        self._exact: dict[str, dict[str, Route]] = {}
        self._prefixes: dict[str, dict[str, Route]] = {}
        for route in routes:
            prefix, has_parameter, _ = route.path.partition("{")
            table = self._prefixes if has_parameter else self._exact
            table.setdefault(prefix, {})[route.method] = route

    def find(self, scope: Scope) -> Route:
        """The route, with its parameter in `scope["path_params"]`."""
        path = scope["path"]
        methods = self._exact.get(path)
        if methods is None:
            methods = self._with_parameter(path, scope)
        route = methods.get(scope["method"])
        if route is None:
            allowed = ", ".join(sorted(methods))
            raise MethodNotAllowed(
                f"{scope['method'][:20]} is not allowed for {path[:200]}; use {allowed}.",
                allowed=allowed,
            )
        return route

    def _with_parameter(self, path: str, scope: Scope) -> dict[str, Route]:
        for prefix, methods in self._prefixes.items():
            if path.startswith(prefix):
                scope["path_params"] = {"rest": path[len(prefix) :]}
                return methods
        raise NotFound(
            f"Unknown path: {scope['method'][:20]} {path[:200]}. GET /docs lists what there is."
        )


def _endpoint(route: Route) -> Callable[..., Any]:
    # What FastAPI reads off an endpoint: its name, its text and the types of its parameters.
    async def replica() -> None: ...

    parameters = []
    if "{" in route.path:
        parameters.append(_parameter(route.path[route.path.index("{") + 1 : -1], str))
    if route.body is not None:
        parameters.append(_parameter("body", route.body))
    replica.__name__ = route.handler.__name__
    replica.__doc__ = route.handler.__doc__
    replica.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return replica


def _parameter(name: str, kind: type) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind)


async def send_json(
    send: Send, body: bytes, *, status: int = 200, content_type: bytes = b"application/json"
) -> None:
    """Send a body that is complete."""
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
