"""The engines and models of one worker process, without any engine."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from maxgate.api.admin.schemas import Engine
from maxgate.control_plane.controller import ModelReport
from maxgate.model_swap.start_queue import Demand
from maxgate.upstream.settings import DNS_PREFIX, ReplicaSettings


class FakeWorkerEngines:
    """Keeps what was applied, with `in_flight` requests at each engine."""

    def __init__(self, *, state: str = "healthy", in_flight: int = 0, breaker: str = "") -> None:
        self.engines: Sequence[ReplicaSettings] = []
        self.draining: Collection[str] = ()
        self.applied = 0
        self.pid = os.getpid()
        self.error: Exception | None = None
        self._state = state
        self._in_flight = in_flight
        self._breakers = {"llama": breaker} if breaker else {}

    @property
    def urls(self) -> list[str]:
        """URLs of the engines."""
        return [engine.url for engine in self.engines]

    def apply(self, engines: Sequence[ReplicaSettings], draining: Collection[str]) -> None:
        if self.error is not None:
            raise self.error
        self.engines, self.draining = engines, draining
        self.applied += 1

    def report(self) -> list[Engine]:
        return [
            Engine(
                id=engine.id,
                url=engine.public_url,
                state=self._state,
                draining=engine.id in self.draining,
                models=["llama"],
                in_flight=self._in_flight,
                breakers=self._breakers,
                weight=engine.weight,
                max_concurrency=engine.max_concurrency,
                source="configuration",
                error=None,
            )
            for engine in self.engines
            if not engine.url.startswith(DNS_PREFIX)
        ]


class FakeWorkerModels:
    """Keeps the state of the models, and reports the demand that a test sets."""

    def __init__(self) -> None:
        self.on_demand: Callable[[], None] = lambda: None
        self.states: Mapping[str, Mapping[str, Any]] = {}
        self.replaced: Mapping[str, str] = {}
        self.demand: dict[str, Demand] = {}
        self.idle: dict[str, float] = {}
        self.running: dict[str, int] = {}

    def apply(self, models: Mapping[str, Mapping[str, Any]], replaced: Mapping[str, str]) -> None:
        self.states, self.replaced = models, replaced

    def list_demand(self) -> Mapping[str, Demand]:
        return self.demand

    def report(self) -> ModelReport:
        closed = [name for name, state in self.states.items() if not state["is_open"]]
        return ModelReport(running=self.running, closed=closed, idle=self.idle)
