"""The parent's side of the control socket, in a thread of its own."""

import asyncio
import socket
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import aclosing, suppress
from typing import Any, Final, Self

import structlog

from maxgate.api.admin.schemas import Engine, EngineChange, ModelSwap, NewEngine
from maxgate.canary.samples import WorkerReport
from maxgate.control_plane.canary import CanaryController, CanaryOrder
from maxgate.control_plane.changes import ManagedEngines
from maxgate.control_plane.controller import (
    CONFIRMATION_TIMEOUT,
    EngineController,
    ModelReport,
    Reports,
    merge_model_reports,
)
from maxgate.control_plane.errors import dump_error
from maxgate.control_plane.messages import MAX_LINE, Message, read_messages, send_message
from maxgate.control_plane.model_rooms import ModelRooms, Waiting
from maxgate.control_plane.model_swaps import ModelSwaps
from maxgate.errors import GatewayError, InternalError, StackTrace
from maxgate.settings import Settings

_START_TIMEOUT: Final = 10.0

_log = structlog.get_logger("control_plane")


class ControlServer:
    """Owns the list of engines, and keeps all workers up to date, from `with` to its end.

    `listening` is the control socket, which is closed at the end. `list_workers` returns the
    process ids of the workers that serve; those without a connection count as not confirmed.
    `rooms` are the models that the gateway starts; those that run are stopped at the end.
    """

    def __init__(
        self,
        listening: socket.socket,
        managed: ManagedEngines,
        settings: Settings,
        load: Callable[[], Settings],
        list_workers: Callable[[], Collection[int]],
        rooms: ModelRooms,
    ) -> None:
        self._rooms = rooms
        self._swaps = ModelSwaps(rooms, drain_timeout=settings.swap.drain_timeout)
        self._listening = listening
        self._links: set[_Link] = set()
        self._list_workers = list_workers
        self._managed = managed
        self._controller = EngineController(managed, settings, load, self._synchronize)
        self._canary = CanaryController(self._collect_canary)
        self._number = 0
        self._loop: asyncio.AbstractEventLoop
        self._started = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve()), name="control", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait(_START_TIMEOUT)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()  # it stops engines

    def reload(self, with_restart: bool) -> None:
        """Start a reload of the configuration, whose result is logged; works from any thread.

        `with_restart`: workers are replaced, and the new ones read all settings.
        """
        asyncio.run_coroutine_threadsafe(self._reload(with_restart), self._loop)

    async def _reload(self, with_restart: bool) -> None:
        with suppress(GatewayError):  # logged
            await self._controller.reload(with_restart=with_restart)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_unix_server(
            self._serve_worker, sock=self._listening, limit=MAX_LINE
        )
        async with server:
            running = asyncio.create_task(self._rooms.run(self))
            self._started.set()
            await self._stop.wait()
            running.cancel()
            await asyncio.wait([running])
        # asyncio.run cancels the tasks that serve workers, which closes their connections.

    async def _serve_worker(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        link = _Link(writer)
        calls: set[asyncio.Task[None]] = set()
        try:
            async with aclosing(read_messages(reader)) as messages:
                async for message in messages:
                    kind = message.get("type")
                    if kind == "hello":
                        link.pid = message["pid"]
                        self._links.add(link)
                        send_message(writer, self._describe_state(0))
                    elif kind == "report":
                        link.take(message)
                    elif kind == "canary_report":
                        link.take_canary(message)
                    elif kind == "demand":
                        link.note_demand(message, self._rooms.now)
                        self._rooms.wake()
                    elif kind == "call":
                        # Not awaited, because the call waits for a report of this worker, too.
                        task = asyncio.create_task(self._respond(link, message))
                        calls.add(task)
                        task.add_done_callback(calls.discard)
        finally:
            self._links.discard(link)
            link.close()
            self._rooms.wake()

    async def _respond(self, link: "_Link", message: Message) -> None:
        reply: Message = {"type": "reply", "number": message["number"]}
        try:
            reply["result"] = await self._call(message["action"], message["arguments"])
        except GatewayError as error:
            reply["error"] = dump_error(error)
        except Exception as error:  # noqa: BLE001  # a bug must not end the control of all workers
            _log.error(
                "admin request failed", action=message.get("action"), exception=StackTrace(error)
            )
            reply["error"] = dump_error(InternalError())
        send_message(link.writer, reply)

    async def _call(self, action: str, arguments: dict[str, Any]) -> Any:
        controller = self._controller
        if action == "list":
            engines, workers = await controller.list_engines()
            return [[engine.model_dump() for engine in engines], workers]
        if action == "add":
            added = await controller.add_engine(NewEngine.model_validate(arguments))
            return added.model_dump()
        if action == "change":
            change = EngineChange.model_validate(arguments["change"])
            return (await controller.change_engine(arguments["id"], change)).model_dump()
        if action == "remove":
            return await controller.remove_engine(arguments["id"])
        if action == "reload":
            return (await controller.reload()).model_dump()
        return await self._call_other(action, arguments)

    async def _call_other(self, action: str, arguments: dict[str, Any]) -> Any:
        if action.endswith("_canary"):
            return (await self._canary.call(action, arguments)).model_dump()
        if action == "unload":
            return await self._swaps.unload_models(arguments["model"])
        if action == "swap":
            return (await self._swaps.swap_models(ModelSwap.model_validate(arguments))).model_dump()
        return (await self._swaps.find_swap()).model_dump()

    async def _synchronize(self) -> Reports:
        """Send the engines to all workers, and collect their reports."""
        self._number += 1
        links = list(self._links)
        waiting = [link.expect(self._number) for link in links]
        for link in links:
            send_message(link.writer, self._describe_state(self._number))
        if waiting:
            await asyncio.wait(waiting, timeout=CONFIRMATION_TIMEOUT)
        late = sum(not future.done() for future in waiting)
        reports = [
            (link, report)
            for link, future in zip(links, waiting, strict=True)
            if future.done() and (report := future.result()) is not None
        ]
        # Workers that have ended meanwhile are gone, and so is their part of the work.
        gone = {link.pid for link in links if link.is_closed}
        unconnected = set(self._list_workers()) - {link.pid for link in links} - gone
        missing = late + len(unconnected)
        merged = merge_model_reports([link.models for link, _ in reports])
        return Reports([engines for _, engines in reports], missing, merged)

    async def publish(self) -> Reports:
        """Send the present state to all workers, and return their reports."""
        return await self._controller.publish()

    def list_waiting(self) -> dict[str, Waiting]:
        """Return the requests that wait in all workers, by model."""
        waiting: dict[str, Waiting] = {}
        for link in self._links:
            for name, found in link.waiting.items():
                known = waiting.get(name, Waiting(0, found.since))
                requests = known.requests + found.requests
                waiting[name] = Waiting(requests, min(known.since, found.since))
        return waiting

    async def _collect_canary(self, order: CanaryOrder) -> Mapping[int, WorkerReport]:
        """Pass the order to all workers; those that hang are missing in the reports."""
        self._number += 1
        plain = None if order.canary is None else order.canary.model_dump()
        message = {"type": "canary", "number": self._number, "id": order.id, "canary": plain}
        waiting: dict[asyncio.Future[WorkerReport | None], int] = {}
        for link in list(self._links):
            waiting[link.expect_canary(self._number)] = link.pid
            send_message(link.writer, {**message, "after": order.after.get(link.pid, 0)})
        if not waiting:
            return {}
        done, _ = await asyncio.wait(waiting, timeout=CONFIRMATION_TIMEOUT)
        reports = {waiting[future]: future.result() for future in done}
        return {pid: report for pid, report in reports.items() if report is not None}

    def _describe_state(self, number: int) -> Message:
        managed = self._managed
        return {
            "type": "state",
            "number": number,
            "engines": [one.model_dump(mode="json", exclude_unset=True) for one in managed.serving],
            "draining": managed.changes.drained,
            "models": self._rooms.describe(),
            "replaced": self._rooms.replaced,
        }


class _Link:
    """The connection of a worker."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.pid = 0
        self.is_closed = False
        self.waiting: dict[str, Waiting] = {}
        self.models = ModelReport(running={}, closed=[], idle={})
        self._expected: dict[int, asyncio.Future[list[Engine] | None]] = {}
        self._expected_canary: dict[int, asyncio.Future[WorkerReport | None]] = {}

    def expect(self, number: int) -> "asyncio.Future[list[Engine] | None]":
        """Return the worker's report with this number; None if its connection ends."""
        future = asyncio.get_running_loop().create_future()
        self._expected = {number: future}
        return future

    def take(self, message: Message) -> None:
        """Note a report; one of a failure leaves the change unconfirmed."""
        future = self._expected.get(message["number"])
        self.models = message.get("models", self.models)
        if future is not None and not future.done() and message["engines"] is not None:
            future.set_result([Engine.model_validate(one) for one in message["engines"]])

    def expect_canary(self, number: int) -> "asyncio.Future[WorkerReport | None]":
        """Return the worker's report of its canary; None if its connection ends."""
        future = asyncio.get_running_loop().create_future()
        self._expected_canary[number] = future
        future.add_done_callback(lambda _: self._expected_canary.pop(number, None))
        return future

    def take_canary(self, message: Message) -> None:
        """Note a report of the canary."""
        future = self._expected_canary.get(message["number"])
        if future is not None and not future.done():
            plain = message["report"]
            future.set_result(None if plain is None else WorkerReport.model_validate(plain))

    def note_demand(self, message: Message, now: float) -> None:
        """Note the requests that wait; the worker sends how long they have waited."""
        self.waiting = {
            name: Waiting(count, now - seconds)
            for name, (count, seconds) in message["models"].items()
        }

    def close(self) -> None:
        """Note the end of the connection."""
        self.is_closed = True
        self.writer.close()
        for future in self._expected.values():
            if not future.done():
                future.set_result(None)
        for report in self._expected_canary.values():
            if not report.done():
                report.set_result(None)
