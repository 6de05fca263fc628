"""Engines that a gateway starts and stops, without any process."""

import asyncio
from collections.abc import Sequence

from maxgate.clock import SystemClock
from maxgate.control_plane.changes import ManagedEngines
from maxgate.control_plane.model_rooms import ManagedModel, ModelRooms
from maxgate.errors import EngineError
from maxgate.model_cards.card import ModelCard
from maxgate.upstream.settings import ReplicaSettings

AGE_BOUND = 0.5


class FakeHostedEngine:
    """An engine that stops at once."""

    def __init__(self, url: str) -> None:
        self.settings = ReplicaSettings(url=url)
        self.stopped = asyncio.Event()

    async def wait(self) -> None:
        await self.stopped.wait()

    async def stop(self) -> None:
        self.stopped.set()


class FakeHost:
    """Starts engines at `http://<name>:<number>`; `errors` has the causes of failures."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.engines: dict[str, FakeHostedEngine] = {}
        self.errors: dict[str, str] = {}

    async def start(self, card: ModelCard) -> FakeHostedEngine:
        self.started.append(card.name)
        if card.name in self.errors:
            raise EngineError(self.errors[card.name])
        url = f"http://{card.name}:{8000 + len(self.started)}"
        engine = self.engines[card.name] = FakeHostedEngine(url)
        return engine


def build_rooms(
    managed: ManagedEngines, host: FakeHost | None = None, models: Sequence[ManagedModel] = ()
) -> ModelRooms:
    """Return the rooms of these models, whose engines the host starts."""
    return ModelRooms(models, host or FakeHost(), managed, SystemClock(), age_bound=AGE_BOUND)
