"""Batches the takes and settlements of callers with many requests.

Counting each request in every limit takes several times as long as counting those of a quarter of a
second together.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Final, TypeAlias

import structlog

from maxgate.clock import Clock
from maxgate.errors import StackTrace
from maxgate.limits.counter import Counter
from maxgate.limits.entries import TOKENS, Amounts, Entries

BATCH_SECONDS: Final = 0.25
"""Time from the first request of a batch to its end."""
MAX_BLOCK: Final = 64
"""Maximum number of requests in a block."""
MANY: Final = 3
"""Number of requests in a batch from which on a block costs less than it saves."""
UNBATCHED: Final = 16
"""Number of requests that are settled one by one before their rate decides about the next ones."""
_FAR: Final = 16
"""Every limit must have more room than for this many blocks."""
_ENDED_AT_ONCE: Final = 64
"""Number of entries that end in one iteration of the event loop."""

_log = structlog.get_logger("limits")

Settle: TypeAlias = Callable[[Entries, Amounts, Amounts], None]
"""Settles held amounts, given the amounts that were used."""


class Batch:
    """Entries whose blocks are returned, and whose ended requests are settled, when the batch ends.

    That is BATCH_SECONDS after its first entries were added. Until then, counters may hold more
    than requests do, never less. Call `end` before a decision that depends on held amounts, such as
    refusing a take.
    """

    def __init__(self, settle: Settle, clock: Clock) -> None:
        self._settle = settle
        self._clock = clock
        self._entries: list[Entries] = []
        self._due = 0
        self._timer: asyncio.Handle | None = None

    def add(self, entries: Entries) -> None:
        """Add entries, which must not be in the batch."""
        self._entries.append(entries)
        entries.in_batch = True
        for counter, _ in entries.all:
            counter.batched += 1
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(BATCH_SECONDS, self._end_due)

    def count_unbatched(self, entries: Entries) -> None:
        """Note that a request was settled at once; if many follow, they will be batched."""
        if not entries.unbatched:
            return  # one that used more than it held, for example
        entries.unbatched -= 1
        if entries.unbatched:
            return
        now = self._clock.monotonic()
        seconds, entries.counted_at = now - entries.counted_at, now
        is_many = not entries.bounded and seconds * MANY <= UNBATCHED * BATCH_SECONDS
        entries.expected = MANY if is_many else 0
        entries.unbatched = 0 if is_many else UNBATCHED
        entries.update_defer()

    def take_ahead(self, entries: Entries, amounts: Sequence[int], lease_until: float) -> None:
        """Take a block for the requests that may follow, if all limits are far.

        Call this after a take, if at least MANY requests are expected. The block is valid until the
        lease or the first window ends.
        """
        if not entries.in_batch:
            self.add(entries)
        _return_block(entries)  # too small for this request, or no longer valid
        entries.taken += 1
        # If more come than expected, as many again may come.
        size = min(max(entries.expected - entries.taken, entries.taken), MAX_BLOCK)
        for counter, index in entries.all:
            if counter.room <= _FAR * size * amounts[index]:
                return
        for counter, index in entries.all:
            counter.room -= size * amounts[index]
        entries.taken += size
        entries.ready = size
        entries.ready_tokens = size * amounts[TOKENS]
        now, until = self._clock.monotonic(), lease_until
        if entries.ends_at != inf:
            until = min(until, now + entries.ends_at - self._clock.wall())
        entries.ready_until = min(until, now + BATCH_SECONDS)

    def end(self, counters: Iterable[Counter] | None = None) -> bool:
        """Return the rest of each block, and settle the requests that have ended; never raises.

        With `counters`, do this only if the batch has one of them. Returns whether it was done.
        """
        if not self._entries:
            return False
        if counters is not None and not any(c.batched for c in counters):
            return False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._end_first(len(self._entries))
        return True

    def _end_due(self) -> None:
        """End the entries of now, a part in each iteration of the event loop."""
        self._due = self._due or len(self._entries)
        count = min(self._due, _ENDED_AT_ONCE)
        self._due -= count
        self._end_first(count)
        loop, self._timer = asyncio.get_running_loop(), None
        if self._due:
            self._timer = loop.call_soon(self._end_due)
        elif self._entries:
            self._timer = loop.call_later(BATCH_SECONDS, self._end_due)

    def _end_first(self, count: int) -> None:
        ending, self._entries = self._entries[:count], self._entries[count:]
        self._due = min(self._due, len(self._entries))
        for entries in ending:
            try:
                self._end(entries)
            except Exception as error:  # noqa: BLE001  # those of other callers must end
                _log.error("limits were not settled", exception=StackTrace(error))

    def _end(self, entries: Entries) -> None:
        for counter, _ in entries.all:
            counter.batched -= 1
        _return_block(entries)
        slots, used, unused = entries.ended, entries.used_tokens, entries.unused_tokens
        entries.in_batch = False
        # Clients that get their responses together send the next requests together. Some come
        # later, so the number falls by half at most.
        entries.expected = expected = max(entries.taken, slots, entries.expected // 2)
        if expected < MANY:
            entries.unbatched, entries.counted_at = UNBATCHED, self._clock.monotonic()
        entries.update_defer()
        entries.taken = entries.ended = entries.used_tokens = entries.unused_tokens = 0
        if slots:
            held = (0, used + unused, 0, 0, slots, 0, 0)
            self._settle(entries, held, (0, used, 0, 0, 0, 0, 0))


def _return_block(entries: Entries) -> None:
    """Return what requests have not taken of a block: some may have taken fewer tokens."""
    if not (entries.ready or entries.ready_tokens):
        return
    rest = (entries.ready, entries.ready_tokens, 0, 0, entries.ready, 0, 0)
    for counter, index in entries.all:
        counter.room += rest[index]
    entries.taken -= entries.ready
    entries.ready = entries.ready_tokens = 0
