"""POST /v1/completions."""

from starlette.types import Receive, Scope, Send

from maxgate.api.app import HotRoute, send_json
from maxgate.api.completions.schemas import CompletionRequest, CompletionResponse
from maxgate.api.completions.service import CompletionService
from maxgate.api.disconnect import DisconnectWatch
from maxgate.api.event_stream import EventStreams
from maxgate.api.request_body import BodyReader


def completion_route(
    service: CompletionService, bodies: BodyReader, streams: EventStreams
) -> HotRoute:
    """Build the route of this resource."""

    async def create_completion(scope: Scope, receive: Receive, send: Send) -> None:
        """Complete one or more prompts.

        With `stream`, the response is an event stream of `text_completion` objects that ends with
        `data: [DONE]`, or with an event that holds an `error`.
        """
        body = await bodies.read(scope, receive, CompletionRequest)
        context = scope["state"]["context"]
        if body.stream:
            await streams.respond(scope, receive, send, service.stream(body, context))
            return
        async with DisconnectWatch(scope, receive):
            response = await service.complete(body, context)
        await send_json(send, response)

    return HotRoute(
        "/v1/completions",
        create_completion,
        body=CompletionRequest,
        response=CompletionResponse,
        tag="completions",
        stream_type="text/event-stream",
    )
