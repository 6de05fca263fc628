"""The innermost embedder: one request to one engine, its answer as vectors."""

from maxgate.generation.embedding import EmbeddingRequest, Embeddings
from maxgate.upstream import embedding_wire
from maxgate.upstream.answer import EngineCall
from maxgate.upstream.engines import Engines


class UpstreamEmbedder:
    """Sends prompts to engines over HTTP, all in one call.

    Counts no tokens: MAX does not either. Raises what `Engines.ask` does, and UpstreamError for an
    answer that is not the vectors that were asked for.
    """

    def __init__(self, engines: Engines) -> None:
        self._engines = engines

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """The vectors of the first engine that answers."""
        model = request.model
        content = embedding_wire.body(model.engine_name, request.prompts)
        call = EngineCall(model.engine_name, embedding_wire.PATH, content)
        async with await self._engines.ask(call) as answer:
            data = await answer.content()
        vectors = embedding_wire.read_answer(
            data, count=len(request.prompts), dimensions=model.dimensions
        )
        return Embeddings(vectors, prompt_tokens=0)
