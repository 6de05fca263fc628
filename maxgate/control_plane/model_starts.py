"""The models that the gateway starts, as one worker knows them."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

from typing_extensions import override

from maxgate.control_plane.controller import ModelReport
from maxgate.control_plane.worker import WorkerModels
from maxgate.generation.context import RequestContext
from maxgate.model_cards.card import ModelCard
from maxgate.model_swap.start_queue import Demand, StartQueue
from maxgate.upstream.catalog import LiveCatalog
from maxgate.upstream.replica import Replica


class WorkerModelStarts(WorkerModels):
    """Holds the requests for models that the parent has closed, until an engine serves them.

    `running` are the requests of this worker that have not ended, and `prepare` loads the prompt
    formats of models, by the engines' names.
    """

    def __init__(
        self,
        cards: Sequence[ModelCard],
        catalog: LiveCatalog,
        replicas: Sequence[Replica],
        queue: StartQueue,
        running: Collection[RequestContext],
        prepare: Callable[[Collection[str]], Awaitable[None]],
    ) -> None:
        self.on_demand = lambda: None
        self._engine_names = {card.name: card.served_model_name for card in cards}
        self._catalog = catalog
        self._replicas = replicas
        self._queue = queue
        self._running = running
        self._prepare = prepare
        self._prepared: set[str] = set()
        self._preparing: asyncio.Task[None] | None = None
        self._applied: tuple[Mapping[str, bool], Mapping[str, str]] = ({}, {})
        catalog.on_refresh = self._resume
        queue.on_demand = self._report_demand

    @override
    def apply(self, models: Mapping[str, Mapping[str, Any]], replaced: Mapping[str, str]) -> None:
        for name, state in models.items():
            if state["error"] is not None and state["pause"] > 0:
                self._queue.fail(name, state["error"], state["pause"])
            elif not state["is_open"]:
                self._queue.hold(name, state["seconds"])
        is_open = {name: bool(state["is_open"]) for name, state in models.items()}
        if (is_open, replaced) != self._applied:
            self._applied = is_open, replaced
            self._catalog.manage(is_open, replaced)
            self._prepare_formats(is_open)

    def _report_demand(self) -> None:
        self.on_demand()

    def _resume(self) -> None:
        """Let requests go on whose models are ready now."""
        for name in self._queue.list_demand():
            if self._catalog.is_ready(name):
                self._queue.resume(name)

    def _prepare_formats(self, models: Collection[str]) -> None:
        names = {self._engine_names[name] for name in models if name in self._engine_names}
        if names <= self._prepared:
            return
        self._prepared |= names

        async def prepare() -> None:
            await self._prepare(names)
            self._catalog.refresh()

        self._preparing = asyncio.create_task(prepare())

    @override
    def list_demand(self) -> Mapping[str, Demand]:
        return self._queue.list_demand()

    @override
    def report(self) -> ModelReport:
        now = asyncio.get_running_loop().time()
        is_open, _ = self._applied
        return ModelReport(
            running=Counter(one.model for one in self._running if one.model is not None),
            closed=[name for name in is_open if not is_open[name]],
            idle={one.id: now - one.activity.at for one in self._replicas if one.activity.at > 0},
        )
