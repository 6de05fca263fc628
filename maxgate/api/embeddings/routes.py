"""POST /v1/embeddings."""

from starlette.types import Receive, Scope, Send

from maxgate.api.disconnect import DisconnectWatch
from maxgate.api.embeddings.schemas import EmbeddingRequestBody, EmbeddingResponse
from maxgate.api.embeddings.service import EmbeddingService
from maxgate.api.hot_route import HotRoute, measure_body, send_json
from maxgate.api.request_body import BodyReader
from maxgate.generation.catalog import ModelStarts
from maxgate.generation.errors import ModelNotRunning


def embedding_route(service: EmbeddingService, bodies: BodyReader, starts: ModelStarts) -> HotRoute:
    """Build the route for embeddings."""

    async def create_embedding(scope: Scope, receive: Receive, send: Send) -> None:
        body = await bodies.read(scope, receive, EmbeddingRequestBody)
        context = scope["state"]["context"]
        async with DisconnectWatch(scope, receive):
            while True:
                try:
                    response = await service.create(body, context)
                except ModelNotRunning as stopped:
                    await starts.wait(stopped.model, context, size=measure_body(scope, body))
                else:
                    break
        await send_json(send, response)

    return HotRoute(
        "/v1/embeddings",
        create_embedding,
        name="create_embedding",
        description="""
            Embed texts as vectors of length 1.

            Inputs longer than the model's context are rejected, never truncated.
        """,
        body=EmbeddingRequestBody,
        response=EmbeddingResponse,
        tag="embeddings",
    )
