"""POST /v1/embeddings."""

from starlette.types import Receive, Scope, Send

from maxgate.api.app import HotRoute, send_json
from maxgate.api.disconnect import DisconnectWatch
from maxgate.api.embeddings.schemas import EmbeddingRequestBody, EmbeddingResponse
from maxgate.api.embeddings.service import EmbeddingService
from maxgate.api.request_body import BodyReader


def embedding_route(service: EmbeddingService, bodies: BodyReader) -> HotRoute:
    """Build the route of this resource."""

    async def create_embedding(scope: Scope, receive: Receive, send: Send) -> None:
        """Embed texts as vectors of length 1.

        Inputs longer than the model's context are refused, never truncated.
        """
        body = await bodies.read(scope, receive, EmbeddingRequestBody)
        async with DisconnectWatch(scope, receive):
            response = await service.create(body, scope["state"]["context"])
        await send_json(send, response)

    return HotRoute(
        "/v1/embeddings",
        create_embedding,
        body=EmbeddingRequestBody,
        response=EmbeddingResponse,
        tag="embeddings",
    )
