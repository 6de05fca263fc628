"""Moves lines from the spools of this host to the database, each exactly once."""

import asyncio
import os
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from maxgate.clock import Clock
from maxgate.stores.identity import StoreUnavailable
from maxgate.stores.usage import UsageBatch, UsageRejected, UsageStore
from maxgate.usage.folder import (
    MOVER_LOCK,
    REJECTED,
    delete_moved,
    find_end,
    keep_rejected,
    list_spools,
    lock_ended,
    lock_file,
    measure_folder,
    read_piece,
)
from maxgate.usage.groups import check_groups, split_group
from maxgate.usage.settings import UsageSettings

MAX_PAUSE_SECONDS: Final = 5.0
"""Interval of attempts after the database has been away for a while."""
DRAIN_SECONDS: Final = 5.0
"""Time to move the last lines when the gateway stops."""

_RETENTION_SECONDS: Final = 3600
_RETRY_SECONDS: Final = 60
_DAY_SECONDS: Final = 86_400
_log = structlog.get_logger("usage")


@dataclass(frozen=True)
class MoverEvents:
    """Called with the numbers of lines moved, and damaged or rejected, and the bytes of spools."""

    on_moved: Callable[[int], None]
    on_damaged: Callable[[int], None]
    on_measured: Callable[[int], None]


class _Batch:
    """Groups of a spool between two positions."""

    def __init__(self, data: bytes, start: int, end: int, *, is_cut: bool = False) -> None:
        self.data = data
        self.start = start
        self.end = end
        self.groups, damaged = check_groups(data)
        self.entries = sum([group.entries for group in self.groups])
        self.damaged = damaged + is_cut

    def halve(self) -> "tuple[_Batch, _Batch] | None":
        """Return both halves; None for a single entry, and for a group that is not valid JSON."""
        data = self.data
        at = data.rfind(b"\n", 0, len(data) // 2)
        length = (data.find(b"\n") if at < 0 else at) + 1
        if length < len(data):
            middle = self.end - (len(data) - length)
            first, rest = data[:length], data[length:]
        else:
            half = self.entries // 2
            if not half:
                return None
            try:
                first, rest = split_group(self.groups[0], half)
            except ValueError:
                return None
            middle = self.start + half
        return _Batch(first, self.start, middle), _Batch(rest, middle, self.end)


class Mover:
    """Moves lines while this process has the lock of the folder, and deletes old usage."""

    def __init__(
        self,
        folder: Path,
        store: UsageStore,
        settings: UsageSettings,
        clock: Clock,
        events: MoverEvents,
    ) -> None:
        self._folder = folder
        self._store = store
        self._settings = settings
        self._clock = clock
        self._events = events
        self._lock: int | None = None
        self._positions: dict[str, int] = {}
        self._retention_at = 0.0
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Move lines until `stop` is called, then what is left; failures are logged and repeated.

        Never raises.
        """
        pause = self._settings.move_interval
        while not self._stopping.is_set():
            if await self._try_to_move():
                pause = self._settings.move_interval
            else:
                pause = min(pause * 2, max(MAX_PAUSE_SECONDS, pause))
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
        await self._drain()

    def stop(self) -> None:
        """Let `run` end soon: not within a transaction, which might go on for a while."""
        self._stopping.set()

    async def _try_to_move(self) -> bool:
        try:
            if await self.move():
                await self._delete_old()
        except StoreUnavailable:  # the database has logged it
            return False
        except Exception:  # noqa: BLE001  # a bug must not end it: the spools would fill up
            _log.error("usage was not moved to the database", exception=traceback.format_exc())
            return False
        return True

    async def _drain(self) -> None:
        """Move what is left, for a bounded time, and release the lock."""
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                is_done = await self._try_to_move()
        except TimeoutError:
            is_done = False
        if not is_done:
            _log.info("usage is left in the spool for the next start")
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def move(self) -> bool:
        """Move all lines that there are now; False if another process of this host does.

        Raises StoreUnavailable.
        """
        if self._lock is None:
            self._lock = lock_file(self._folder / MOVER_LOCK)
            if self._lock is None:
                return False
        for spool in await asyncio.to_thread(list_spools, self._folder):
            try:
                await self._move_spool(spool)
            except OSError as error:  # the others go on
                _log.error("usage of a spool was not moved", spool=spool.name, error=str(error))
        self._events.on_measured(await asyncio.to_thread(measure_folder, self._folder))
        return True

    async def _move_spool(self, spool: Path) -> None:
        lock = lock_ended(spool)  # before its end is read
        is_ended = lock is not None
        try:
            position = self._positions.get(spool.name)
            if position is None:
                position = await self._store.find_position(spool.name)
            end = await asyncio.to_thread(find_end, spool)
            # Lines appended meanwhile wait for the next time: otherwise this would go on for
            # ever, with a transaction for a handful of lines each.
            while is_ended or position < end:
                read = asyncio.to_thread(_read_batch, spool, position, is_ended=is_ended)
                if (batch := await read) is None:
                    break
                position = await self._store_batch(spool.name, batch)
            self._positions[spool.name] = position
            await asyncio.to_thread(delete_moved, spool, position, is_ended=is_ended)
            if is_ended:
                self._positions.pop(spool.name)
        finally:
            if lock is not None:
                os.close(lock)

    async def _store_batch(self, name: str, batch: _Batch) -> int:
        """Store a batch, and return the position afterwards."""
        self._positions.pop(name, None)  # unknown, if the reply is lost
        try:
            is_stored = await self._store.append(
                UsageBatch(name, batch.start, batch.end, batch.groups)
            )
        except UsageRejected as error:
            return await self._isolate(name, batch, error)
        if not is_stored:
            # The reply to an earlier call was lost.
            return await self._store.find_position(name)
        self._events.on_moved(batch.entries)
        if batch.damaged:
            self._events.on_damaged(batch.damaged)
            _log.error("damaged lines of usage were skipped", spool=name, lines=batch.damaged)
        return batch.end

    async def _isolate(self, name: str, batch: _Batch, error: UsageRejected) -> int:
        """Store the lines of a rejected batch without those that are to blame."""
        halves = await asyncio.to_thread(batch.halve)
        if halves is not None:
            for half in halves:
                position = await self._store_batch(name, half)
                if position != half.end:  # as the database has it: go on from there
                    break
            return position
        await asyncio.to_thread(keep_rejected, self._folder, name, batch.data)
        self._events.on_damaged(batch.entries)
        file, reason = str(self._folder / REJECTED), str(error)
        _log.error("the database rejects a line of usage", spool=name, file=file, error=reason)
        return await self._store_batch(name, _Batch(b"", batch.start, batch.end))

    async def _delete_old(self) -> None:
        now = self._clock.monotonic()
        if now < self._retention_at:
            return
        self._retention_at = now + _RETRY_SECONDS
        today, settings = int(self._clock.wall()), self._settings
        await self._store.drop_before("entries", today - settings.entry_days * _DAY_SECONDS)
        await self._store.drop_before("1m", today - settings.minute_days * _DAY_SECONDS)
        await self._store.drop_before("1h", today - settings.hour_days * _DAY_SECONDS)
        await self._store.drop_before("1d", today - settings.day_days * _DAY_SECONDS)
        self._retention_at = now + _RETENTION_SECONDS


def _read_batch(spool: Path, position: int, *, is_ended: bool) -> _Batch | None:
    piece = read_piece(spool, position, is_ended=is_ended)
    if piece is None:
        return None
    data = piece.data
    if piece.stored:
        data = _drop_stored(data, piece.stored)
    return _Batch(data, position, piece.end, is_cut=piece.is_cut)


def _drop_stored(data: bytes, stored: int) -> bytes:
    """Remove the first `stored` entries, which are in the database already."""
    length = data.index(b"\n") + 1
    groups, _ = check_groups(data[:length])
    first = split_group(groups[0], stored)[1] if groups else data[:length]
    return first + data[length:]
