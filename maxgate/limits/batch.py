"""Batches the takes and settlements of one iteration of the event loop.

Under load, many requests begin and end in one iteration. Counting each of them in every limit takes
several times as long as counting them together.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import structlog

from maxgate.errors import StackTrace
from maxgate.limits.entries import TOKENS, Amounts, Entries

MAX_BLOCK: Final = 64
"""Maximum number of requests in a block."""
MANY: Final = 3
"""Number of requests of an iteration from which on a block costs less than it saves."""
_UNBATCHED: Final = 16
"""Settlements of a caller with few requests before the next one that looks for others."""
_FAR: Final = 16
"""Multiple of a block that every limit must have left."""

_log = structlog.get_logger("limits")

Settle: TypeAlias = Callable[[Entries, Amounts, Amounts], None]
"""Settles held amounts, given the amounts that were used."""


class Batch:
    """Entries that are settled at the end of this iteration of the event loop.

    Until then, counters may hold more than requests do, never less. Call `end` before a decision
    that depends on held amounts, such as refusing a take.
    """

    def __init__(self, settle: Settle) -> None:
        self._settle = settle
        self._entries: list[Entries] = []
        self._blocks: list[Entries] = []

    @property
    def is_empty(self) -> bool:
        """Whether `end` has nothing to do."""
        return not self._entries

    def add_ended(self, entries: Entries, used: int, unused: int) -> None:
        """Settle a request at the end, of entries that are `is_batched` and not `bounded`.

        `used` and `unused` are the parts of the tokens that it holds.
        """
        if not entries.in_batch:
            self._add(entries)
        entries.ended += 1
        entries.used_tokens += used
        entries.unused_tokens += unused

    def take_ahead(self, entries: Entries, amounts: Sequence[int]) -> None:
        """Take a block for the requests that may follow, if all limits are far.

        Call this after a take, if at least MANY requests are expected.
        """
        if not entries.in_batch:
            self._add(entries)
        entries.taken += 1
        if entries.ready:
            return
        # If more come than expected, as many again may come.
        size = min(max(entries.expected - entries.taken, entries.taken), MAX_BLOCK)
        if all(c.room > _FAR * size * amounts[index] for c, index in entries.all):
            for counter, index in entries.all:
                counter.room -= size * amounts[index]
            entries.taken += size
            entries.ready = size
            entries.ready_tokens += size * amounts[TOKENS]
            self._blocks.append(entries)

    def return_blocks(self) -> None:
        """Return the rest of each block."""
        if self._blocks:
            for entries in self._blocks:
                rest = (entries.ready, entries.ready_tokens, 0, 0, entries.ready, 0, 0)
                for counter, index in entries.all:
                    counter.room += rest[index]
                entries.taken -= entries.ready
                entries.ready = entries.ready_tokens = 0
            self._blocks.clear()

    def end(self) -> None:
        """Return the rest of each block, and settle the requests that have ended; never raises."""
        self.return_blocks()
        all_entries, self._entries = self._entries, []
        for entries in all_entries:
            try:
                self._end(entries)
            except Exception as error:  # noqa: BLE001  # those of other callers must end
                _log.error("limits were not settled", exception=StackTrace(error))

    def _add(self, entries: Entries) -> None:
        if not self._entries:
            asyncio.get_running_loop().call_soon(self.end)
        self._entries.append(entries)
        entries.in_batch = True

    def _end(self, entries: Entries) -> None:
        slots, used, unused = entries.ended, entries.used_tokens, entries.unused_tokens
        entries.in_batch = False
        # Clients that get their responses together send the next requests together. Some come
        # later, so the number falls by half at most.
        entries.expected = expected = max(entries.taken, slots, entries.expected // 2)
        entries.unbatched = 0 if expected >= MANY else _UNBATCHED
        entries.taken = entries.ended = entries.used_tokens = entries.unused_tokens = 0
        if slots:
            held = (0, used + unused, 0, 0, slots, 0, 0)
            self._settle(entries, held, (0, used, 0, 0, 0, 0, 0))
