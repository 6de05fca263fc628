"""Hot routes, documented by FastAPI and served as plain ASGI, and their handlers.

Calling a FastAPI endpoint takes 25 to 60 µs of CPU. Hot routes keep its documentation and skip
that cost (docs/decisions/0011-fastapi-is-the-application.md).
"""

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.routing import Match
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from maxgate.api.disconnect import DisconnectWatch
from maxgate.api.error_handlers import ERROR_RESPONSES
from maxgate.api.event_stream import EventStreams
from maxgate.api.middleware import get_route_path
from maxgate.api.request_body import BodyReader
from maxgate.api.sampling import SampledRequest
from maxgate.generation.catalog import ModelStarts
from maxgate.generation.context import RequestContext
from maxgate.generation.errors import ModelNotRunning

Handler: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Body = TypeVar("Body", bound=SampledRequest)
BodyT_contra = TypeVar("BodyT_contra", bound=SampledRequest, contravariant=True)


class HotRoute(APIRoute):
    """A POST route that FastAPI documents and that is served as plain ASGI.

    `body` and `response` are the types in the OpenAPI document; the handler validates the body
    itself. `stream_type` is the content type of streamed responses.
    """

    def __init__(
        self,
        path: str,
        handler: Handler,
        *,
        name: str,
        description: str,
        body: type,
        response: Any,
        tag: str,
        stream_type: str | None = None,
    ) -> None:
        content: dict[int | str, Any] = {}
        if stream_type:
            content = {200: {"content": {stream_type: {}}}}

        async def endpoint() -> None: ...

        # FastAPI documents the signature of the endpoint; the handler has none of its own.
        parameter = inspect.Parameter("body", inspect.Parameter.KEYWORD_ONLY, annotation=body)
        endpoint.__name__ = name
        endpoint.__signature__ = inspect.Signature([parameter])  # type: ignore[attr-defined]
        super().__init__(
            path,
            endpoint,
            methods=["POST"],
            tags=[tag],
            description=inspect.cleandoc(description),
            response_model=response,
            responses={**content, **ERROR_RESPONSES},
            operation_id=name,
        )
        self.app = handler

    @override
    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http" or get_route_path(scope) != self.path:
            return Match.NONE, {}
        is_full = scope["method"] == "POST"
        return Match.FULL if is_full else Match.PARTIAL, {"route": self, "endpoint": self.endpoint}


class GenerationService(Protocol[BodyT_contra]):
    """Generates text for validated request bodies."""

    async def complete(self, body: BodyT_contra, context: RequestContext) -> bytes:
        """Return the complete response as JSON."""
        ...

    def stream(self, body: BodyT_contra, context: RequestContext) -> AsyncGenerator[bytes]:
        """Stream the response as encoded events."""
        ...


class GenerationHandler(Generic[Body]):
    """Handles requests for generated text: validates the body, then responds whole or streamed.

    A request whose model has to be started waits for that first. The work is cancelled if the
    client disconnects.
    """

    def __init__(
        self,
        service: GenerationService[Body],
        body_type: type[Body],
        bodies: BodyReader,
        streams: EventStreams,
        starts: ModelStarts,
    ) -> None:
        self._starts = starts
        self._service = service
        self._body_type = body_type
        self._bodies = bodies
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        body = await self._bodies.read(scope, receive, self._body_type)
        context: RequestContext = scope["state"]["context"]
        while True:
            try:
                if body.stream:
                    events = self._service.stream(body, context)
                    await self._streams.respond(scope, receive, send, events)
                    return
                async with DisconnectWatch(scope, receive):
                    response = await self._service.complete(body, context)
                await send_json(send, response)
            except ModelNotRunning as stopped:  # raised before anything is sent
                async with DisconnectWatch(scope, receive):
                    await self._starts.wait(stopped.model, context, size=measure_body(scope, body))
            else:
                return


def measure_body(scope: Scope, body: BaseModel) -> int:
    """Return the size of a request body in bytes."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value)
    return len(body.model_dump_json(exclude_unset=True))  # it was sent in chunks


async def send_json(send: Send, body: bytes) -> None:
    """Send a complete JSON response with status 200."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
