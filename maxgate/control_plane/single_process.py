"""The control of the engines without the parent process of `maxgate serve`."""

import sys
from collections.abc import Awaitable, Callable, Sequence
from multiprocessing import parent_process
from typing import NoReturn

from typing_extensions import override

from maxgate.api.admin.schemas import (
    Engine,
    EngineChange,
    EngineControl,
    ModelControl,
    ModelSwap,
    NewEngine,
    ReloadResult,
)
from maxgate.control_plane.changes import EngineChanges, ManagedEngines
from maxgate.control_plane.controller import EngineController, Reports
from maxgate.control_plane.errors import ChangesNotSupported
from maxgate.control_plane.worker import WorkerEngines
from maxgate.errors import NotSupported
from maxgate.settings import Settings


def is_only_process() -> bool:
    """Whether no server has started this process as one of several workers, as far as it knows.

    `uvicorn --workers` and `uvicorn --reload` start theirs through multiprocessing.
    """
    return parent_process() is None and "gunicorn" not in sys.modules


def build_single_process_control(
    engines: WorkerEngines,
    settings: Settings,
    load: Callable[[], Settings],
    refresh_keys: Callable[[], Awaitable[None]],
) -> EngineController:
    """Build the control of a gateway that is one process; changes end with it."""
    managed = ManagedEngines(settings.engines, EngineChanges(), save=lambda _: None)

    async def synchronize() -> Reports:
        await refresh_keys()
        engines.apply(managed.serving, managed.changes.drained)
        return Reports([engines.report()])

    return EngineController(managed, settings, load, synchronize)


class NoModelControl(ModelControl):
    """Refuses changes of models, which need the parent process of `maxgate serve`."""

    @override
    async def swap_models(self, swap: ModelSwap) -> NoReturn:
        raise _refuse()

    @override
    async def find_swap(self) -> NoReturn:
        raise _refuse()

    @override
    async def unload_models(self, model: str | None = None) -> NoReturn:
        raise _refuse()


def _refuse() -> NotSupported:
    return NotSupported(
        "Models cannot be stopped or swapped here, because this gateway has not started the "
        "engines. Start it with `maxgate serve --engine local` or `--engine docker`."
    )


class ReadOnlyControl(EngineControl):
    """Lists the engines of one of several workers, which cannot change those of the others."""

    def __init__(self, engines: WorkerEngines) -> None:
        self._engines = engines

    @override
    async def list_engines(self) -> tuple[Sequence[Engine], int]:
        return self._engines.report(), 1

    @override
    async def add_engine(self, engine: NewEngine) -> NoReturn:
        raise ChangesNotSupported

    @override
    async def change_engine(self, engine_id: str, change: EngineChange) -> NoReturn:
        raise ChangesNotSupported

    @override
    async def remove_engine(self, engine_id: str) -> NoReturn:
        raise ChangesNotSupported

    @override
    async def reload(self) -> ReloadResult:
        raise ChangesNotSupported
