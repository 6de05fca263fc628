"""POST /v1/chat/completions."""

from maxgate.api.body import BodyReader, Receive, Scope, Send
from maxgate.api.chat.answers import ChatCompletionResponse
from maxgate.api.chat.service import ChatService
from maxgate.api.chat.wire import ChatCompletionRequest
from maxgate.api.client_watch import ClientWatch
from maxgate.api.responses import send_json
from maxgate.api.routing import Route
from maxgate.api.sse import EventStreams


def chat_routes(service: ChatService, bodies: BodyReader, streams: EventStreams) -> list[Route]:
    """The routes of this resource."""

    async def create_chat_completion(scope: Scope, receive: Receive, send: Send) -> None:
        """Continue a dialogue.

        With `stream` the answer is an event stream of `chat.completion.chunk` objects that ends
        in `data: [DONE]`, or in an event with an `error`.
        """
        body = await bodies.read(scope, receive, ChatCompletionRequest)
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
            "/v1/chat/completions",
            create_chat_completion,
            tag="chat",
            body=ChatCompletionRequest,
            response=ChatCompletionResponse,
            also=("text/event-stream",),
        )
    ]
