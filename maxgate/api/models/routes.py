"""GET and POST /v1/models, GET /v1/models/{model}."""

from dataclasses import dataclass
from typing import Literal

from fastapi import APIRouter

from maxgate.api.dependencies import Catalog
from maxgate.generation.catalog import UNKNOWN_CONTEXT, PromptSource, ServedModel


@dataclass(frozen=True, slots=True)
class Model:
    """A model. `max_model_len` bounds prompt and completion, under vLLM's and MAX's name.

    It is null if neither a model card nor the engine states it.
    `prompts` states where prompts become token ids, as in `/health`.
    """

    id: str
    created: int
    max_model_len: int | None
    prompts: PromptSource
    object: Literal["model"] = "model"
    owned_by: str = "maxgate"


@dataclass(frozen=True, slots=True)
class ModelList:
    """All models, the default one first."""

    data: list[Model]
    object: Literal["list"] = "list"


router = APIRouter(tags=["models"])


@router.get("/v1/models", operation_id="list_models")
@router.post("/v1/models", operation_id="list_models_post")
async def list_models(catalog: Catalog) -> ModelList:
    """List the models that can be requested."""
    return ModelList([_convert(model) for model in catalog.list()])


@router.get("/v1/models/{model:path}", operation_id="get_model")
async def get_model(model: str, catalog: Catalog) -> Model:
    """Describe one model, given its name or an alias."""
    return _convert(catalog.find(model))


def _convert(model: ServedModel) -> Model:
    known = model.context_length != UNKNOWN_CONTEXT
    length = model.context_length if known else None
    return Model(model.name, model.created, length, model.prompts)
