"""GET /running and POST /api/models/unload, as llama-swap has them."""

from collections.abc import Sequence
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from maxgate.api.admin.routes import Models
from maxgate.api.dependencies import Catalog, Engines


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


class UnloadedModels(BaseModel):
    """`ok` once all models have stopped; status 202 while requests at some still run."""

    msg: Literal["ok", "draining"]
    draining: list[str]


router = APIRouter(tags=["admin"])


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


@router.post("/api/models/unload", operation_id="unload_models")
async def unload_models(models: Models, response: Response) -> UnloadedModels:
    """Stop all models that the gateway has started, once their requests have finished."""
    return _describe(await models.unload_models(), response)


@router.post("/api/models/unload/{model:path}", operation_id="unload_model")
async def unload_model(model: str, models: Models, response: Response) -> UnloadedModels:
    """Stop one model, once its requests have finished; the next request starts it again."""
    return _describe(await models.unload_models(model), response)


def _describe(draining: Sequence[str], response: Response) -> UnloadedModels:
    response.status_code = 202 if draining else 200
    return UnloadedModels(msg="draining" if draining else "ok", draining=list(draining))
