"""GET /running and POST /api/models/unload, as llama-swap has them."""

from typing import Any, Final, Literal

from fastapi import APIRouter
from pydantic import BaseModel

from maxgate.api.dependencies import Catalog, Engines
from maxgate.api.errors import ErrorResponse
from maxgate.errors import NotSupported


class RunningModel(BaseModel):
    """A model that a healthy engine has loaded.

    `state` is `ready`, or `stopping` if all of its engines are drained. `engines` are their URLs.
    """

    model: str
    state: Literal["ready", "stopping"]
    engines: list[str]


class RunningModels(BaseModel):
    """All running models, in the order of `/v1/models`."""

    running: list[RunningModel]


router = APIRouter(tags=["admin"])
_REFUSED: Final[dict[str, Any]] = {
    "status_code": 501,
    "responses": {501: {"model": ErrorResponse, "description": "Not supported yet."}},
}


@router.get("/running", operation_id="list_running_models")
async def list_running_models(catalog: Catalog, engines: Engines) -> RunningModels:
    """List the models that run, with their engines."""
    healthy = [engine for engine in engines if engine.state == "healthy"]
    running = []
    for model in catalog.list():
        hosts = [engine for engine in healthy if model.engine_name in engine.models]
        if hosts:
            state = "stopping" if all(engine.draining for engine in hosts) else "ready"
            urls = [engine.url for engine in hosts]
            running.append(RunningModel(model=model.name, state=state, engines=urls))
    return RunningModels(running=running)


@router.post("/api/models/unload", operation_id="unload_models", **_REFUSED)
@router.post("/api/models/unload/{model:path}", operation_id="unload_model", **_REFUSED)
async def unload_models() -> None:
    """Refuse to unload models, which is not supported yet."""
    raise NotSupported(
        "Models cannot be unloaded at run time: a model is loaded as long as its engine runs. To "
        "send no more requests to an engine, drain it with `maxgate engines drain`. To free its "
        "memory, stop the engine."
    )
