"""POST /v1/chat/completions."""

from maxgate.api.chat.responses import ChatCompletionResponse
from maxgate.api.chat.schemas import ChatCompletionRequest
from maxgate.api.chat.service import ChatService
from maxgate.api.disconnect import DisconnectWatch
from maxgate.api.event_stream import EventStreams
from maxgate.api.request_body import BodyReader, Receive, Scope, Send
from maxgate.api.routing import Route, send_json


def chat_routes(service: ChatService, bodies: BodyReader, streams: EventStreams) -> list[Route]:
    """The routes of this resource."""

    async def create_chat_completion(scope: Scope, receive: Receive, send: Send) -> None:
        """Continue a dialogue.

        With `stream` the answer is an event stream of `chat.completion.chunk` objects that ends
        in `data: [DONE]`, or in an event with an `error`.
        """
        body = await bodies.read(scope, receive, ChatCompletionRequest)
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
            "/v1/chat/completions",
            create_chat_completion,
            tag="chat",
            body=ChatCompletionRequest,
            response=ChatCompletionResponse,
            also=("text/event-stream",),
        )
    ]
