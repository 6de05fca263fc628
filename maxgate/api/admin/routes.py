"""/admin/engines, models/swap, canary and reload; AdminGuard decides who may use them."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from maxgate.api.admin.canary import Canary, CanaryControl, NewCanary
from maxgate.api.admin.schemas import (
    DeletedEngine,
    Engine,
    EngineChange,
    EngineControl,
    EngineList,
    ModelControl,
    ModelSwap,
    ModelSwapStatus,
    NewEngine,
    ReloadResult,
    unknown_engine,
)
from maxgate.api.request_body import BodyRoute


def get_engine_control(request: Request) -> EngineControl:
    """Return the control of the engines."""
    control: EngineControl = request.app.state.engine_control
    return control


def get_model_control(request: Request) -> ModelControl:
    """Return the control of the models."""
    control: ModelControl = request.app.state.model_control
    return control


def get_canary_control(request: Request) -> CanaryControl:
    """Return the control of the canary."""
    control: CanaryControl = request.app.state.canary_control
    return control


Control = Annotated[EngineControl, Depends(get_engine_control)]
Models = Annotated[ModelControl, Depends(get_model_control)]
Canaries = Annotated[CanaryControl, Depends(get_canary_control)]


router = APIRouter(prefix="/admin", tags=["admin"], route_class=BodyRoute)


@router.get("/engines", operation_id="list_engines")
async def list_engines(control: Control) -> EngineList:
    """List the engines with their state in all workers."""
    engines, workers = await control.list_engines()
    return EngineList(data=list(engines), workers=workers)


@router.post("/engines", operation_id="add_engine", status_code=201)
async def add_engine(engine: NewEngine, control: Control) -> Engine:
    """Add an engine; it gets requests once it has listed its models."""
    return await control.add_engine(engine)


@router.get("/engines/{engine_id}", operation_id="get_engine")
async def get_engine(engine_id: str, control: Control) -> Engine:
    """Describe one engine."""
    engines, _ = await control.list_engines()
    for engine in engines:
        if engine.id == engine_id:
            return engine
    raise unknown_engine(engine_id)


@router.patch("/engines/{engine_id}", operation_id="change_engine")
async def change_engine(engine_id: str, change: EngineChange, control: Control) -> Engine:
    """Drain or undrain an engine, or change its weight or maximum concurrency."""
    return await control.change_engine(engine_id, change)


@router.delete("/engines/{engine_id}", operation_id="remove_engine")
async def remove_engine(engine_id: str, control: Control) -> DeletedEngine:
    """Remove an engine; its running requests still finish."""
    await control.remove_engine(engine_id)
    return DeletedEngine(id=engine_id)


@router.post("/models/swap", operation_id="swap_models", status_code=202)
async def swap_models(swap: ModelSwap, models: Models) -> ModelSwapStatus:
    """Begin to replace a model by another one; `GET` reports the progress."""
    return await models.swap_models(swap)


@router.get("/models/swap", operation_id="get_model_swap")
async def get_model_swap(models: Models) -> ModelSwapStatus:
    """Describe the last swap."""
    return await models.find_swap()


@router.post("/reload", operation_id="reload")
async def reload(control: Control) -> ReloadResult:
    """Read the configuration again, and apply it as a whole or not at all."""
    return await control.reload()


@router.post("/canary", operation_id="start_canary", status_code=201)
async def start_canary(canary: NewCanary, canaries: Canaries) -> Canary:
    """Compare a new engine with the running ones, on a share of the requests."""
    return await canaries.start_canary(canary)


@router.get("/canary", operation_id="read_canary")
async def read_canary(canaries: Canaries) -> Canary:
    """Return the result so far; a canary that nobody reads for 30 s ends."""
    return await canaries.read_canary()


@router.delete("/canary", operation_id="stop_canary")
async def stop_canary(canaries: Canaries) -> Canary:
    """End the canary and return its result."""
    return await canaries.stop_canary()
