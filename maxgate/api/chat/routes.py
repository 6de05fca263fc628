"""POST /v1/chat/completions."""

from maxgate.api.chat.responses import ChatCompletionResponse
from maxgate.api.chat.schemas import ChatCompletionRequest
from maxgate.api.chat.service import ChatService
from maxgate.api.event_stream import EventStreams
from maxgate.api.hot_route import GenerationHandler, HotRoute
from maxgate.api.request_body import BodyReader
from maxgate.generation.catalog import ModelStarts


def chat_route(
    service: ChatService, bodies: BodyReader, streams: EventStreams, starts: ModelStarts
) -> HotRoute:
    """Build the route for chat completions."""
    return HotRoute(
        "/v1/chat/completions",
        GenerationHandler(service, ChatCompletionRequest, bodies, streams, starts),
        name="create_chat_completion",
        description="""
            Create a chat completion.

            With `stream`, the response is an event stream of `chat.completion.chunk` objects that
            ends with `data: [DONE]`, or with an event that holds an `error`.
        """,
        body=ChatCompletionRequest,
        response=ChatCompletionResponse,
        tag="chat",
        stream_type="text/event-stream",
    )
