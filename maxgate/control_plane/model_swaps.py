"""Changes of models by an operator: swap two of them, and unload."""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import structlog
from typing_extensions import override

from maxgate.api.admin.schemas import ModelControl, ModelSwap, ModelSwapStatus
from maxgate.control_plane.model_rooms import ModelRooms
from maxgate.errors import Conflict, MaxgateError, NotFound, NotSupported, UpstreamTimeout
from maxgate.generation.errors import ModelNotFound
from maxgate.model_swap.schedule import ModelRoom

_POLL: Final = 0.05
_UNLOAD_WAIT: Final = 15.0
"""Seconds that an unload waits for running requests before it responds."""

_log = structlog.get_logger("control_plane")


class ModelSwaps(ModelControl):
    """Swaps and unloads models; a model that changes is reserved, so that nothing else stops it."""

    def __init__(self, rooms: ModelRooms, *, drain_timeout: float) -> None:
        self._rooms = rooms
        self._drain_timeout = drain_timeout
        self._swap: ModelSwapStatus | None = None
        self._began = 0.0
        self._held_since: float | None = None

    @override
    async def swap_models(self, swap: ModelSwap) -> ModelSwapStatus:
        self._check_supported()
        old, new = self._find(swap.old, "old"), self._find(swap.new, "new")
        if old is new:
            raise Conflict(f"{swap.old!r} and {swap.new!r} are the same model.", param="new")
        if self._swap is not None and self._swap.phase not in {"done", "failed"}:
            raise Conflict(
                f"{self._swap.old} is being swapped for {self._swap.new}. Wait until that has "
                "ended: GET /admin/models/swap reports the progress.",
                code="swap_in_progress",
            )
        if not swap.in_place:
            self._check_room(new)
        self._swap = ModelSwapStatus(
            old=old.name, new=new.name, in_place=swap.in_place, phase="starting", seconds=0
        )
        self._began, self._held_since = self._rooms.now, None
        self._rooms.spawn(self._execute(self._swap, old, new))
        return await self.find_swap()

    def _check_room(self, new: ModelRoom) -> None:
        others = [] if new.occupies else self._rooms.schedule.list_conflicts(new.name)
        if others:
            names = ", ".join(other.name for other in others)
            raise Conflict(
                f"There is no room for {new.name} beside {names}, by `group` and `exclusive` in "
                "the cards. Swap in place (--in-place): requests wait while the models change.",
                param="in_place",
                code="no_room",
            )

    @override
    async def find_swap(self) -> ModelSwapStatus:
        self._check_supported()
        swap = self._swap
        if swap is None:
            raise NotFound("No models have been swapped.", code="swap_not_found")
        if swap.phase not in {"done", "failed"}:
            now = self._rooms.now
            swap.seconds = round(now - self._began, 1)
            if self._held_since is not None:
                swap.held_seconds = round(now - self._held_since, 1)
            after = swap.old if swap.in_place else None
            expected = self._rooms.schedule.estimate(swap.new, now, after=after)
            swap.expected_seconds = round(expected, 1)
        return swap

    async def _execute(self, swap: ModelSwapStatus, old: ModelRoom, new: ModelRoom) -> None:
        _log.info("swap of models begins", old=old.name, new=new.name, in_place=swap.in_place)
        try:
            async with self._reserved(old, new):
                await (self._swap_in_place if swap.in_place else self._swap_beside)(swap, old, new)
            await self.find_swap()
            swap.phase, swap.expected_seconds = "done", None
            _log.info("swap of models is done", **swap.model_dump(exclude={"object", "phase"}))
        except Exception as error:
            await self.find_swap()
            swap.phase, swap.expected_seconds = "failed", None
            swap.error = str(error) if isinstance(error, MaxgateError) else "internal error"
            _log.error("swap of models failed", old=old.name, new=new.name, error=str(error))
            raise

    async def _swap_beside(self, swap: ModelSwapStatus, old: ModelRoom, new: ModelRoom) -> None:
        await self._bring_up(new)
        swap.phase = "draining"
        await self._shift(old.name, new.name)
        await self._take_down(old, swap)

    async def _swap_in_place(self, swap: ModelSwapStatus, old: ModelRoom, new: ModelRoom) -> None:
        was_running = old.state == "ready"
        self._rooms.swapping = (old.name, new.name)
        self._held_since = self._rooms.now
        try:
            await self._take_down(old, swap, self._drain_timeout)
            try:
                await self._make_room(swap, old, new)
                swap.phase = "starting"
                await self._bring_up(new)
            except MaxgateError:
                if was_running:
                    swap.phase = "restoring"
                    await self._bring_up(old)
                raise
            await self._shift(old.name, new.name)
        finally:
            self._rooms.swapping = None

    async def _make_room(self, swap: ModelSwapStatus, old: ModelRoom, new: ModelRoom) -> None:
        """Stop the other models that may not run beside the new one."""
        for other in self._rooms.schedule.list_conflicts(new.name):
            if other is not old:
                async with self._reserved(other):
                    await self._take_down(other, swap, self._drain_timeout)

    @asynccontextmanager
    async def _reserved(self, *rooms: ModelRoom) -> AsyncIterator[None]:
        """Keep the schedule from changing models, once they have settled."""
        for room in rooms:
            while room.reserved or room.state not in {"ready", "stopped"}:  # noqa: ASYNC110
                await asyncio.sleep(_POLL)
            room.reserved = True
        try:
            yield
        finally:
            for room in rooms:
                room.reserved = False
            await self._rooms.publish()
            self._rooms.wake()

    async def _bring_up(self, room: ModelRoom) -> None:
        if room.state != "ready":
            self._rooms.schedule.begin("start", room.name, self._rooms.now)
            await self._rooms.publish()
            await self._rooms.start(room.name)

    async def _shift(self, old: str, new: str) -> None:
        """Let the names of the old model lead to the new one, in all workers."""
        replaced = self._rooms.replaced
        replaced.pop(new, None)
        for name, target in replaced.items():
            if target == old:
                replaced[name] = new
        replaced[old] = new
        deadline = self._rooms.now + self._drain_timeout
        while (await self._rooms.publish()).missing and self._rooms.now < deadline:  # noqa: ASYNC110
            await asyncio.sleep(_POLL)  # a worker that has just started is not connected yet

    async def _take_down(
        self, room: ModelRoom, swap: ModelSwapStatus | None = None, patience: float = math.inf
    ) -> None:
        """Close a model, wait for its requests, and stop it.

        Raises UpstreamTimeout, after opening it again, if they take longer than `patience` seconds.
        """
        if room.state != "ready":
            return
        if swap is not None:
            swap.phase = "draining"
        self._rooms.schedule.begin("close", room.name, self._rooms.now)
        deadline = self._rooms.now + patience
        while not room.drained:
            if self._rooms.now >= deadline:
                self._rooms.schedule.begin("reopen", room.name, self._rooms.now)
                await self._rooms.publish()
                raise UpstreamTimeout(
                    f"requests at {room.name} still run after {patience:g} s (swap.drain_timeout)"
                )
            self._rooms.observe(await self._rooms.publish())
            await asyncio.sleep(_POLL)
        if swap is not None:
            swap.phase = "stopping"
        self._rooms.schedule.begin("stop", room.name, self._rooms.now)
        await self._rooms.stop(room.name)

    @override
    async def unload_models(self, model: str | None = None) -> Sequence[str]:
        self._check_supported()
        rooms = self._rooms.schedule.rooms
        chosen = [*rooms.values()] if model is None else [self._find(model, "model")]
        chosen = [room for room in chosen if room.state != "stopped"]
        for room in chosen:
            self._rooms.spawn(self._unload(room))
        deadline = self._rooms.now + _UNLOAD_WAIT
        while chosen and self._rooms.now < deadline:
            await asyncio.sleep(_POLL)
            chosen = [room for room in chosen if room.state != "stopped"]
        return [room.name for room in chosen]

    async def _unload(self, room: ModelRoom) -> None:
        async with self._reserved(room):
            self._rooms.models[room.name].is_on_demand = True
            await self._take_down(room)

    def _check_supported(self) -> None:
        if not self._rooms.models:
            raise NotSupported(
                "The gateway has not started the engines, so it cannot stop or swap models. Start "
                "it with --engine local or --engine docker."
            )

    def _find(self, name: str, param: str) -> ModelRoom:
        for model in self._rooms.models.values():
            if name in model.card.names:
                return self._rooms.schedule.rooms[model.card.name]
        error = ModelNotFound(name)
        error.param = param
        raise error
