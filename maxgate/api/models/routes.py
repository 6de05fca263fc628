"""GET and POST /v1/models, GET /v1/models/{model}."""

from dataclasses import dataclass
from typing import Literal

import orjson

from maxgate.api.request_body import Receive, Scope, Send
from maxgate.api.routing import Route, send_json
from maxgate.generation.catalog import ModelCatalog, ServedModel


@dataclass(frozen=True, slots=True)
class Model:
    """A model; `max_model_len` counts prompt and answer, under the name that vLLM and MAX use."""

    id: str
    created: int
    max_model_len: int
    object: Literal["model"] = "model"
    owned_by: str = "maxgate"


@dataclass(frozen=True, slots=True)
class ModelList:
    """All models, the default one first."""

    data: list[Model]
    object: Literal["list"] = "list"


def model_routes(catalog: ModelCatalog) -> list[Route]:
    """The routes of this resource."""

    async def list_models(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
        """List the models that can be asked for."""
        await send_json(send, orjson.dumps(ModelList([_model(m) for m in catalog.list()])))

    async def get_model(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
        """Describe one model, by its name or an alias."""
        model = catalog.find(scope["path_params"]["rest"])
        await send_json(send, orjson.dumps(_model(model)))

    return [
        Route("GET", "/v1/models", list_models, tag="models", response=ModelList),
        Route("POST", "/v1/models", list_models, tag="models", response=ModelList),
        Route("GET", "/v1/models/{model}", get_model, tag="models", response=Model),
    ]


def _model(model: ServedModel) -> Model:
    return Model(model.name, model.created, model.context_length)
