"""Routes that FastAPI documents and that handle their requests as plain ASGI.

FastAPI's own handling of a body costs more than the rest of the gateway together; what it knows of
a route's types is still good for the OpenAPI page.
"""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final

from fastapi.routing import APIRoute
from starlette.types import Receive as StarletteReceive
from starlette.types import Scope as StarletteScope
from starlette.types import Send as StarletteSend

from maxgate.api.body import Receive, Scope, Send
from maxgate.api.errors import ErrorResponse
from maxgate.errors import MethodNotAllowed

Handler = Callable[[Scope, Receive, Send], Awaitable[None]]
_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    "4XX": {"model": ErrorResponse, "description": "The request cannot be served."},
    "5XX": {"model": ErrorResponse, "description": "The engine or the gateway failed."},
}


class DocumentedRoute(APIRoute):
    """One method of one path.

    `body` and `response` are the types of the OpenAPI page; the handler's docstring is its text.
    """

    def __init__(
        self,
        method: str,
        path: str,
        handler: Handler,
        *,
        tag: str,
        response: Any = None,
        body: type | None = None,
    ) -> None:
        super().__init__(
            path,
            _documented(handler, body, path),
            methods=[method],
            tags=[tag],
            response_model=response,
            responses=_ERRORS,
            operation_id=handler.__name__
            if method != "POST" or body
            else handler.__name__ + "_post",
        )
        self._handler = handler
        self.method = method
        self.allowed = method

    async def handle(
        self, scope: StarletteScope, receive: StarletteReceive, send: StarletteSend
    ) -> None:
        """Give the request to the handler.

        Raises MethodNotAllowed where the path fits and the method does not.
        """
        scope["trace"].route = self.path
        if scope["method"] != self.method:
            raise MethodNotAllowed(
                f"{scope['method']} is not allowed for {self.path}; use {self.allowed}.",
                allowed=self.allowed,
            )
        await self._handler(scope, receive, send)


def _documented(handler: Handler, body: type | None, path: str) -> Callable[..., Any]:
    # What FastAPI reads off an endpoint: its name, its text and the types of its parameters.
    async def endpoint() -> None: ...

    parameters = []
    if "{" in path:
        name = path[path.index("{") + 1 :].split(":", maxsplit=1)[0].rstrip("}")
        parameters.append(_parameter(name, str))
    if body is not None:
        parameters.append(_parameter("body", body))
    endpoint.__name__ = handler.__name__
    endpoint.__doc__ = handler.__doc__
    endpoint.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return endpoint


def _parameter(name: str, kind: type) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind)
