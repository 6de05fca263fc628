"""POST /v1/completions."""

from maxgate.api.body import BodyReader, Receive, Scope, Send
from maxgate.api.client_watch import ClientWatch
from maxgate.api.completions.service import CompletionService
from maxgate.api.completions.wire import CompletionRequest, CompletionResponse
from maxgate.api.responses import send_json
from maxgate.api.routing import Route
from maxgate.api.sse import EventStreams


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
        trace = scope["trace"]
        if body.stream:
            await streams.respond(scope, receive, send, service.stream(body, trace))
            return
        async with ClientWatch(scope, receive):
            answer = await service.complete(body, trace)
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
