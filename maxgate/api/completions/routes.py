"""POST /v1/completions."""

from maxgate.api.completions.schemas import CompletionRequest, CompletionResponse
from maxgate.api.completions.service import CompletionService
from maxgate.api.disconnect import DisconnectWatch
from maxgate.api.event_stream import EventStreams
from maxgate.api.request_body import BodyReader, Receive, Scope, Send
from maxgate.api.routing import Route, send_json


def completion_routes(
    service: CompletionService, bodies: BodyReader, streams: EventStreams
) -> list[Route]:
    """The routes of this resource."""

    async def create_completion(scope: Scope, receive: Receive, send: Send) -> None:
        """Continue a text, or several.

        With `stream` the answer is an event stream of `text_completion` objects that ends in
        `data: [DONE]`, or in an event with an `error`.
        """
        body = await bodies.read(scope, receive, CompletionRequest)
        context = scope["state"]["context"]
        if body.stream:
            await streams.respond(scope, receive, send, service.stream(body, context))
            return
        async with DisconnectWatch(scope, receive):
            answer = await service.complete(body, context)
        await send_json(send, answer)

    return [
        Route(
            "POST",
            "/v1/completions",
            create_completion,
            tag="completions",
            body=CompletionRequest,
            response=CompletionResponse,
            also=("text/event-stream",),
        )
    ]
