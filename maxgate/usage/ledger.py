"""The ledger at the edge: one line for each client request that reached a model."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from typing_extensions import override

from maxgate.clock import Clock
from maxgate.errors import ConfigurationError
from maxgate.generation.context import RequestContext, UsageLedger
from maxgate.stores.usage import Kind, UsageStore
from maxgate.usage.folder import make_folder
from maxgate.usage.groups import encode_groups
from maxgate.usage.mover import Mover, MoverEvents
from maxgate.usage.settings import UsageSettings
from maxgate.usage.spool import OnDurable, Spool

_KINDS: Final[Mapping[str, Kind]] = {
    "/v1/embeddings": "embeddings",
    "/v1/moderations": "moderations",
}
"""Kinds of the routes that do not generate text."""


CLIENT_CLOSED_REQUEST: Final = 499
"""Status of requests whose client disconnected before the response; nginx's convention."""


class SpooledLedger(UsageLedger):
    """Writes lines to the spool of this worker, and moves those of this host to the database.

    `find_batch_size` returns how many requests the engine of a model works on at a time.
    """

    def __init__(
        self,
        settings: UsageSettings,
        state_dir: Path,
        store: UsageStore,
        clock: Clock,
        find_batch_size: Callable[[str], int],
        on_written: Callable[[int], None],
        on_lost: Callable[[int], None],
        events: MoverEvents,
    ) -> None:
        """Raise ConfigurationError if there can be no spool."""
        self._folder = make_folder(state_dir)
        self._settings = settings
        self._store = store
        self._clock = clock
        self._find_batch_size = find_batch_size
        self._on_written = on_written
        self._on_lost = on_lost
        self._mover = Mover(self._folder, store, settings, clock, events)
        self.is_refusing = False
        self._spool: Spool[RequestContext] | None = None
        self._sequence = 0

    @override
    def commit(self, context: RequestContext) -> Awaitable[None] | None:
        durable = asyncio.get_running_loop().create_future()

        def finish() -> None:
            if not durable.done():  # the request may have been cancelled
                durable.set_result(None)

        context.record.finished_at = self._clock.monotonic()  # but for its last bytes
        return durable if self.commit_then(context, finish) else None

    @override
    def commit_then(self, context: RequestContext, on_durable: OnDurable | None) -> bool:
        if context.ledger is None:
            return False
        context.ledger = None
        spool, record = self._spool, context.record
        if spool is None or record.model is None:
            return False
        # Nobody pays for a request that no engine worked on.
        return spool.append(context, on_durable if record.engine_calls else None)

    @override
    def append(self, context: RequestContext) -> None:
        self.commit_then(context, None)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep the spool and move lines during the block; afterwards, write and move the rest.

        Raises ConfigurationError if the spool cannot be created.
        """
        self.is_refusing = False
        try:
            self._spool = Spool(
                self._folder,
                self._settings.max_spool_bytes,
                encode=self._encode,
                on_written=self._on_written,
                on_lost=self._on_lost,
                on_full=self._set_full,
            )
        except OSError as error:
            raise ConfigurationError(
                f"setting usage.enabled: {self._folder}: {error.strerror}"
            ) from error
        moving = asyncio.create_task(self._mover.run())
        try:
            yield
        finally:
            await self._spool.aclose()
            self._mover.stop()
            await moving
            await self._store.aclose()

    def _set_full(self, is_full: bool) -> None:
        self.is_refusing = is_full and self._settings.on_full == "refuse"

    def _encode(self, contexts: Sequence[RequestContext]) -> bytes:
        """Encode the lines of requests.

        One without a status has not been answered, and one without an outcome still waits for its
        line.
        """
        now = self._clock.monotonic()
        wall_offset = self._clock.wall() - now
        rows = list[tuple[object, ...]]()
        sized_model, batch_size = "", 1
        for number, context in enumerate(contexts, self._sequence + 1):
            record, principal = context.record, context.principal
            model, started_at = record.model or "", record.started_at
            if model != sized_model:  # most requests of a group are for the same one
                sized_model, batch_size = model, self._find_batch_size(model)
            finished_at, first_token_at = record.finished_at or now, record.first_token_at
            seconds = record.engine_seconds
            rows.append(
                (
                    number,
                    wall_offset + finished_at,
                    record.request_id,
                    _KINDS.get(record.route, "completions"),
                    record.route,
                    principal.project_id,
                    principal.owner_id,
                    principal.key_id,
                    model,
                    record.engine,
                    record.outcome or "ok",
                    record.status or CLIENT_CLOSED_REQUEST,
                    record.stream,
                    False,  # the gateway has no cache of responses
                    record.engine_calls,
                    record.prompt_tokens,
                    record.cached_tokens,
                    record.completion_tokens,
                    record.queue_seconds,
                    None if first_token_at is None else first_token_at - started_at,
                    finished_at - started_at,
                    seconds,
                    seconds / batch_size,
                    principal.service_class,
                    context.tags,
                    context.decisions,
                )
            )
        self._sequence += len(contexts)
        return encode_groups(rows)
