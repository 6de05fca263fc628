"""POST /v1/embeddings."""

from maxgate.api.disconnect import DisconnectWatch
from maxgate.api.embeddings.schemas import EmbeddingRequestBody, EmbeddingResponse
from maxgate.api.embeddings.service import EmbeddingService
from maxgate.api.request_body import BodyReader, Receive, Scope, Send
from maxgate.api.routing import Route, send_json


def embedding_routes(service: EmbeddingService, bodies: BodyReader) -> list[Route]:
    """The routes of this resource."""

    async def create_embedding(scope: Scope, receive: Receive, send: Send) -> None:
        """Turn texts into vectors of length 1.

        Inputs that are too long for the model are refused, never cut.
        """
        body = await bodies.read(scope, receive, EmbeddingRequestBody)
        async with DisconnectWatch(scope, receive):
            answer = await service.create(body, scope["state"]["context"])
        await send_json(send, answer)

    return [
        Route(
            "POST",
            "/v1/embeddings",
            create_embedding,
            tag="embeddings",
            body=EmbeddingRequestBody,
            response=EmbeddingResponse,
        )
    ]
