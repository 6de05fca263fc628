"""POST /v1/chat/completions."""

from starlette.types import Receive, Scope, Send

from maxgate.api.app import HotRoute, send_json
from maxgate.api.chat.responses import ChatCompletionResponse
from maxgate.api.chat.schemas import ChatCompletionRequest
from maxgate.api.chat.service import ChatService
from maxgate.api.disconnect import DisconnectWatch
from maxgate.api.event_stream import EventStreams
from maxgate.api.request_body import BodyReader


def chat_route(service: ChatService, bodies: BodyReader, streams: EventStreams) -> HotRoute:
    """Build the route of this resource."""

    async def create_chat_completion(scope: Scope, receive: Receive, send: Send) -> None:
        """Create a chat completion.

        With `stream`, the response is an event stream of `chat.completion.chunk` objects that ends
        with `data: [DONE]`, or with an event that holds an `error`.
        """
        body = await bodies.read(scope, receive, ChatCompletionRequest)
        context = scope["state"]["context"]
        if body.stream:
            await streams.respond(scope, receive, send, service.stream(body, context))
            return
        async with DisconnectWatch(scope, receive):
            response = await service.complete(body, context)
        await send_json(send, response)

    return HotRoute(
        "/v1/chat/completions",
        create_chat_completion,
        body=ChatCompletionRequest,
        response=ChatCompletionResponse,
        tag="chat",
        stream_type="text/event-stream",
    )
