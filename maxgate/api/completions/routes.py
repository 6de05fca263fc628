"""POST /v1/completions."""

from maxgate.api.completions.schemas import CompletionRequest, CompletionResponse
from maxgate.api.completions.service import CompletionService
from maxgate.api.event_stream import EventStreams
from maxgate.api.hot_route import GenerationHandler, HotRoute
from maxgate.api.request_body import BodyReader
from maxgate.generation.catalog import ModelStarts


def completion_route(
    service: CompletionService,
    bodies: BodyReader,
    streams: EventStreams,
    starts: ModelStarts,
) -> HotRoute:
    """Build the route for text completions."""
    return HotRoute(
        "/v1/completions",
        GenerationHandler(service, CompletionRequest, bodies, streams, starts),
        name="create_completion",
        description="""
            Complete one or more prompts.

            With `stream`, the response is an event stream of `text_completion` objects that ends
            with `data: [DONE]`, or with an event that holds an `error`.
        """,
        body=CompletionRequest,
        response=CompletionResponse,
        tag="completions",
        stream_type="text/event-stream",
    )
