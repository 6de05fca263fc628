"""GET and POST /v1/models, GET /v1/models/{model}."""

import orjson

from maxgate.api.body import Receive, Scope, Send
from maxgate.api.models.wire import Model, ModelList
from maxgate.api.responses import send_json
from maxgate.api.routing import Route
from maxgate.generation.catalog import ModelCatalog, ServedModel


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
