"""The worker's side of the control socket."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from multiprocessing import parent_process
from pathlib import Path
from typing import Any, Final, Protocol

import structlog
from typing_extensions import override

from maxgate.api.admin.canary import Canary, CanaryControl, NewCanary
from maxgate.api.admin.schemas import (
    Engine,
    EngineChange,
    EngineControl,
    ModelControl,
    ModelSwap,
    ModelSwapStatus,
    NewEngine,
    ReloadResult,
)
from maxgate.canary.worker import WorkerCanary
from maxgate.control_plane.controller import CONFIRMATION_TIMEOUT, PROBE_TIMEOUT, ModelReport
from maxgate.control_plane.errors import NoReply, ParentUnreachable, load_error
from maxgate.control_plane.messages import MAX_LINE, Message, read_messages, send_message
from maxgate.errors import StackTrace
from maxgate.model_swap.start_queue import Demand
from maxgate.upstream.settings import ReplicaSettings

SOCKET_VARIABLE: Final = "_MAXGATE_CONTROL_SOCKET"
"""Set in the workers of `maxgate serve`: the path of the parent's socket."""
_CONNECT_TIMEOUT: Final = 5.0
_RECONNECT_PAUSE: Final = 0.5
_DEMAND_PAUSE: Final = 0.01
# The parent itself waits for engines and for confirmations.
_CALL_TIMEOUT: Final = PROBE_TIMEOUT + 2 * CONFIRMATION_TIMEOUT + 5.0

_log = structlog.get_logger("control_plane")


class WorkerEngines(Protocol):
    """The engines of this process."""

    def apply(self, engines: Sequence[ReplicaSettings], draining: Collection[str]) -> None:
        """Use these engines, and start no requests at the draining ones."""
        ...

    def report(self) -> list[Engine]:
        """Return the engines as this process sees them."""
        ...


class WorkerModels(Protocol):
    """The models that the gateway starts, in this process.

    `on_demand` is called when the demand changes.
    """

    on_demand: Callable[[], None]

    def apply(self, models: Mapping[str, Mapping[str, Any]], replaced: Mapping[str, str]) -> None:
        """Take the state of the models, as ModelRooms describes it."""
        ...

    def list_demand(self) -> Mapping[str, Demand]:
        """Return the requests that wait, by model."""
        ...

    def report(self) -> ModelReport:
        """Return the requests of the models, in the state that was applied last."""
        ...


async def _refresh_nothing() -> None:
    """Stand in for keys where authentication is off."""


class ParentClient(EngineControl, CanaryControl, ModelControl):
    """Applies the parent's list of engines, and forwards admin requests to the parent.

    Every list of the parent refreshes the keys, too, before it is confirmed.
    """

    def __init__(
        self,
        path: Path,
        engines: WorkerEngines,
        models: WorkerModels,
        canary: WorkerCanary | None = None,
        refresh_keys: Callable[[], Awaitable[None]] = _refresh_nothing,
    ) -> None:
        self._path = path
        self._canary = canary
        self._refresh_keys = refresh_keys
        self._engines = engines
        self._models = models
        self._demand_timer: asyncio.TimerHandle | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._number = 0
        self._applied = asyncio.Event()
        self._state: tuple[Any, Any] | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Stay connected; enter once the first list of the parent is applied.

        After a timeout, the worker starts with the engines of its own configuration.
        """
        self._models.on_demand = self._plan_demand
        task = asyncio.create_task(self._run())
        try:
            try:
                await asyncio.wait_for(self._applied.wait(), _CONNECT_TIMEOUT)
            except TimeoutError:
                parent = parent_process()
                if parent is None or parent.is_alive():  # otherwise this worker ends soon
                    _log.warning("the parent process has not sent its engines")
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self._path, limit=MAX_LINE)
            except OSError as error:
                _log.debug("the parent process is not reachable", error=str(error))
            else:
                try:
                    await self._serve(reader, writer)
                finally:
                    self._disconnect(writer)
            await asyncio.sleep(_RECONNECT_PAUSE)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        send_message(writer, {"type": "hello", "pid": os.getpid()})
        if self._models.list_demand():
            self._send_demand()
        async with aclosing(read_messages(reader)) as messages:
            async for message in messages:
                if message["type"] == "state":
                    await self._refresh_keys()
                    engines = self._apply(message)
                    report = {"type": "report", "number": message["number"], "engines": engines}
                    send_message(writer, {**report, "models": self._models.report()})
                elif message["type"] == "canary":
                    send_message(writer, self._report_canary(message))
                elif (call := self._calls.get(message["number"])) is not None and not call.done():
                    if "error" in message:
                        call.set_exception(load_error(message["error"]))
                    else:
                        call.set_result(message["result"])

    def _apply(self, message: Message) -> list[dict[str, Any]] | None:
        """Apply the parent's list; returns the report, or None if that failed."""
        state = (message["engines"], message["draining"])
        try:
            # Every list of engines asks for a report, and reading a CA file takes 50 ms.
            if state != self._state:
                settings = [ReplicaSettings.model_validate(one) for one in message["engines"]]
                self._state = None
                self._engines.apply(settings, message["draining"])
                self._state = state
            self._models.apply(message.get("models", {}), message.get("replaced", {}))
            self._applied.set()
            return [engine.model_dump() for engine in self._engines.report()]
        except Exception as error:  # noqa: BLE001  # a bug must not end the connection
            _log.error("the parent's engines could not be applied", exception=StackTrace(error))
            return None

    def _report_canary(self, message: Message) -> Message:
        report = None
        try:
            plain, after = message["canary"], message["after"]
            canary = None if plain is None else NewCanary.model_validate(plain)
            if self._canary is not None:
                report = self._canary.report(message["id"], canary, after).model_dump()
        except Exception as error:  # noqa: BLE001  # a bug must not end the connection
            _log.error("the canary could not be reported", exception=StackTrace(error))
        return {"type": "canary_report", "number": message["number"], "report": report}

    def _plan_demand(self) -> None:
        """Report the demand soon: many requests may arrive or go on at once."""
        if self._demand_timer is None:
            loop = asyncio.get_running_loop()
            self._demand_timer = loop.call_later(_DEMAND_PAUSE, self._send_demand)

    def _send_demand(self) -> None:
        self._demand_timer = None
        if self._writer is not None:
            message = {"type": "demand", "models": self._models.list_demand()}
            send_message(self._writer, message)

    def _disconnect(self, writer: asyncio.StreamWriter) -> None:
        self._writer = None
        writer.close()
        for call in self._calls.values():
            if not call.done():
                call.set_exception(NoReply())

    async def _call(self, action: str, **arguments: Any) -> Any:
        if self._writer is None:
            raise ParentUnreachable
        self._number += 1
        number = self._number
        future = self._calls[number] = asyncio.get_running_loop().create_future()
        message = {"type": "call", "number": number, "action": action, "arguments": arguments}
        send_message(self._writer, message)
        try:
            return await asyncio.wait_for(future, _CALL_TIMEOUT)
        except TimeoutError:
            raise NoReply from None
        finally:
            del self._calls[number]

    @override
    async def list_engines(self) -> tuple[Sequence[Engine], int]:
        engines, workers = await self._call("list")
        return [Engine.model_validate(engine) for engine in engines], workers

    @override
    async def add_engine(self, engine: NewEngine) -> Engine:
        fields = engine.model_dump(mode="json", exclude_unset=True)
        return Engine.model_validate(await self._call("add", **fields))

    @override
    async def change_engine(self, engine_id: str, change: EngineChange) -> Engine:
        fields = change.model_dump(mode="json", exclude_unset=True)
        return Engine.model_validate(await self._call("change", id=engine_id, change=fields))

    @override
    async def remove_engine(self, engine_id: str) -> None:
        await self._call("remove", id=engine_id)

    @override
    async def swap_models(self, swap: ModelSwap) -> ModelSwapStatus:
        return ModelSwapStatus.model_validate(await self._call("swap", **swap.model_dump()))

    @override
    async def find_swap(self) -> ModelSwapStatus:
        return ModelSwapStatus.model_validate(await self._call("find_swap"))

    @override
    async def unload_models(self, model: str | None = None) -> Sequence[str]:
        draining: list[str] = await self._call("unload", model=model)
        return draining

    @override
    async def reload(self) -> ReloadResult:
        return ReloadResult.model_validate(await self._call("reload"))

    @override
    async def start_canary(self, canary: NewCanary) -> Canary:
        return Canary.model_validate(await self._call("start_canary", **canary.model_dump()))

    @override
    async def read_canary(self) -> Canary:
        return Canary.model_validate(await self._call("read_canary"))

    @override
    async def stop_canary(self) -> Canary:
        return Canary.model_validate(await self._call("stop_canary"))
