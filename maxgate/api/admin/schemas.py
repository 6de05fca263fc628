"""Bodies of the admin API, and the interface of its implementation."""

from collections.abc import Sequence
from typing import Annotated, Literal, Protocol

from pydantic import BaseModel, Field

from maxgate.api.schemas import RequestBody
from maxgate.errors import NotFound

TakesEffect = Literal["now", "worker_restart", "gateway_restart"]

ModelName = Annotated[str, Field(min_length=1, max_length=500)]


class NewEngine(RequestBody):
    """An engine to add; fields as in an item of the setting `engines`."""

    url: str = Field(min_length=1, max_length=2000)
    models: list[ModelName] | None = Field(default=None, min_length=1, max_length=1000)
    weight: float = Field(default=1, gt=0, le=1000)
    metrics_url: str | None = Field(default=None, max_length=2000)
    max_concurrency: int | None = Field(default=None, ge=1, le=1_000_000)
    ca_file: str | None = Field(default=None, max_length=4000)


class EngineChange(RequestBody):
    """A change to one engine; a field that is left out stays as it is.

    An engine that is `draining` finishes its requests and gets no new ones. A `max_concurrency` of
    null is no limit.
    """

    draining: bool = False
    weight: float = Field(default=1, gt=0, le=1000)
    max_concurrency: int | None = Field(default=None, ge=1, le=1_000_000)


class Engine(BaseModel):
    """One engine, as all workers see it.

    `state` is `healthy`, `unreachable` or `unknown`; where workers differ, the best one. It is
    `dns` for a name whose addresses are listed as engines of their own.
    `in_flight` is the sum over all workers. `breakers` has the state by model: `closed`, `open` or
    `half_open`; where workers differ, the worst. `source` is `runtime` if the engine was added by
    the admin API.
    """

    id: str
    object: Literal["engine"] = "engine"
    url: str
    state: str
    draining: bool
    models: list[str]
    in_flight: int
    breakers: dict[str, str]
    weight: float
    max_concurrency: int | None
    source: Literal["configuration", "runtime"]
    error: str | None


class EngineList(BaseModel):
    """All engines; `workers` is the number of processes that have reported."""

    object: Literal["list"] = "list"
    data: list[Engine]
    workers: int


class DeletedEngine(BaseModel):
    """A removed engine; its running requests still finish."""

    id: str
    object: Literal["engine"] = "engine"
    deleted: Literal[True] = True


class SettingChange(BaseModel):
    """A setting that the configuration has changed, without credentials.

    `before` or `after` is null for an engine that was added or removed. `takes_effect` is `now`,
    `worker_restart` (`maxgate restart`), or `gateway_restart` (a new start of `maxgate serve`).
    """

    setting: str
    before: str | None
    after: str | None
    takes_effect: TakesEffect


class ReloadResult(BaseModel):
    """The result of reading the configuration again; empty `changes` if nothing has changed."""

    object: Literal["reload"] = "reload"
    changes: list[SettingChange]


class ModelSwap(RequestBody):
    """A model to replace by another one; both are names or aliases of model cards.

    With `in_place`, the old one is stopped first: requests wait until the new one is ready.
    """

    old: str = Field(min_length=1, max_length=200)
    new: str = Field(min_length=1, max_length=200)
    in_place: bool = False


SwapPhase = Literal["starting", "draining", "stopping", "restoring", "done", "failed"]


class ModelSwapStatus(BaseModel):
    """The last swap of two models, by the names of their cards; times in seconds.

    `phase` is `restoring` while the old model is started again because the new one has failed.
    `held_seconds` is the time for which requests had to wait, `expected_seconds` the time until the
    new model will probably be ready.
    """

    object: Literal["model_swap"] = "model_swap"
    old: str
    new: str
    in_place: bool
    phase: SwapPhase
    seconds: float
    held_seconds: float = 0
    expected_seconds: float | None = None
    error: str | None = None


class ModelControl(Protocol):
    """Starts, stops and swaps the models of the running gateway.

    Everything raises NotSupported if the gateway has not started the engines, ParentUnreachable
    without a connection to the parent process, and NoReply if that does not reply.
    """

    async def swap_models(self, swap: ModelSwap) -> ModelSwapStatus:
        """Begin a swap; raises ModelNotFound, and Conflict if it is not possible now."""
        ...

    async def find_swap(self) -> ModelSwapStatus:
        """Return the last swap; raises NotFound if there was none."""
        ...

    async def unload_models(self, model: str | None = None) -> Sequence[str]:
        """Stop a model or all once their requests have finished; return those still draining.

        Raises ModelNotFound.
        """
        ...


class EngineControl(Protocol):
    """Changes the engines of the running gateway, in all workers.

    Every change raises ChangesNotSupported without the parent process of `maxgate serve` and more
    than one worker, ChangesNotSaved if it could not be saved, and NotConfirmed if a worker did not
    confirm it in time. Everything raises ParentUnreachable without a connection to the parent
    process, and NoReply if that does not reply.
    """

    async def list_engines(self) -> tuple[Sequence[Engine], int]:
        """Return all engines, and the number of workers that have reported."""
        ...

    async def add_engine(self, engine: NewEngine) -> Engine:
        """Add an engine; raises Conflict if it is there, and InvalidRequest."""
        ...

    async def change_engine(self, engine_id: str, change: EngineChange) -> Engine:
        """Change an engine; raises NotFound."""
        ...

    async def remove_engine(self, engine_id: str) -> None:
        """Remove an engine; raises NotFound, and Conflict for the last one."""
        ...

    async def reload(self) -> ReloadResult:
        """Read the configuration again; raises InvalidRequest if it is invalid."""
        ...


def unknown_engine(engine_id: str) -> NotFound:
    """Return the error for an id that no engine has."""
    return NotFound(
        f"No engine has the id {engine_id[:100]!r}. GET /admin/engines lists all engines.",
        param="engine_id",
        code="engine_not_found",
    )
