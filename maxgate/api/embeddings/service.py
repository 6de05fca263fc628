"""Run embedding requests and build OpenAI's responses."""

import sys
from array import array
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import orjson

from maxgate.api.embeddings.schemas import (
    Embedding,
    EmbeddingRequestBody,
    EmbeddingResponse,
    EmbeddingUsage,
)
from maxgate.api.model_access import restrict
from maxgate.api.principals import apply_fields
from maxgate.errors import InvalidRequest
from maxgate.generation.backend import Embedder, EmbeddingRequest, Vector
from maxgate.generation.catalog import ModelCatalog, ServedModel
from maxgate.generation.context import RequestContext


class EmbeddingService:
    """Runs embedding requests; raises what the catalog and the embedder raise."""

    def __init__(self, embedder: Embedder, catalog: ModelCatalog) -> None:
        self._embedder = embedder
        self._catalog = catalog

    async def create(self, body: EmbeddingRequestBody, context: RequestContext) -> bytes:
        """Return the vectors as JSON."""
        if body.user:
            apply_fields(context, body.user)
        model = self._find_model(
            body, restrict(self._catalog, context.models, context.project_models)
        )
        context.model = model.name
        request = EmbeddingRequest(model, _list_inputs(body.input), context)
        embeddings = await self._embedder.embed(request)
        encode = _encode_base64 if body.encoding_format == "base64" else array.tolist
        data = [
            Embedding(index=index, embedding=encode(vector))
            for index, vector in enumerate(embeddings.vectors)
        ]
        tokens = embeddings.prompt_tokens
        usage = EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens)
        return orjson.dumps(EmbeddingResponse(data=data, model=model.name, usage=usage))

    def _find_model(self, body: EmbeddingRequestBody, catalog: ModelCatalog) -> ServedModel:
        if body.model is None:
            self._check_unambiguous(catalog)
        model = catalog.find(body.model, "embeddings")
        if body.dimensions not in {None, model.dimensions}:
            raise InvalidRequest(
                f"Invalid value for 'dimensions': the vectors of {model.name} have "
                f"{model.dimensions} dimensions and cannot be shortened.",
                param="dimensions",
                code="unsupported_value",
            )
        return model

    @staticmethod
    def _check_unambiguous(catalog: ModelCatalog) -> None:
        names = [model.name for model in catalog.list() if model.task == "embeddings"]
        if len(names) > 1:
            # Vectors of different models are not comparable, so there is no default.
            raise InvalidRequest(
                f"Missing required parameter: 'model'. Choose one of {', '.join(names)}.",
                param="model",
                code="missing_required_parameter",
            )


def _list_inputs(given: Any) -> Sequence[str | Sequence[int]]:
    if isinstance(given, str) or isinstance(given[0], int):
        return [given]
    inputs: Sequence[str | Sequence[int]] = given
    return inputs


def _encode_base64(vector: Vector) -> str:
    if sys.byteorder == "big":
        vector = array("f", vector)
        vector.byteswap()
    return b64encode(vector.tobytes()).decode()
