"""A counter as one process knows it."""

from math import inf
from typing import Final
from urllib.parse import quote

from maxgate.limits.limit import Limit
from maxgate.limits.table import MAX_AMOUNT, Report
from maxgate.limits.windows import Span

_BLOCK_PARTS: Final = 100
"""All blocks together are at most this part of the limit, so that 99 % of it can be used."""
_MIN_BLOCK: Final = 10
_TIGHT_PARTS: Final = 4
"""With less than this part of the limit free, unused amounts go back at once."""


class Counter:
    """The usage of a limit in one window.

    This process has a part of the limit: what it has `used`, what its requests have `reserved`, and
    `room`, which it may take without an exchange, valid in this `epoch` of Counters. Takes and
    settlements move amounts within the `part`, so that a take of a request changes only `room`, and
    its settlement `room` and `settled`: what ended requests have used. A counter that `charges`
    uses at once what requests take. `others` is what other processes have used and hold. The table
    has `reported` of what is used; `base` was used before, if the table does not know the counter.
    `seen_at` is the monotonic time of the last exchange, in seconds. `allowance` is the maximum of
    a block, as of the last exchange; room above `max_room` goes back at once. `was_held` is set for
    concurrent requests if there were some since the last report. `batched` is the number of entries
    in the batch that have this counter.
    """

    __slots__ = (
        "allowance",
        "amount",
        "base",
        "batched",
        "charges",
        "ends_at",
        "epoch",
        "holds_only",
        "idle_ticks",
        "is_active",
        "is_known",
        "key",
        "limit",
        "max_room",
        "others",
        "part",
        "rebuilds",
        "reported",
        "room",
        "seen_at",
        "settled",
        "start",
        "was_held",
    )

    def __init__(self, key: str, limit: Limit, span: Span, *, rebuilds: bool = False) -> None:
        self.key = key
        self.limit = limit
        self.amount = min(limit.amount, MAX_AMOUNT)
        self.start, self.ends_at = span
        self.charges = limit.unit == "requests"
        self.holds_only = limit.unit == "concurrent_requests"
        self.rebuilds = rebuilds and not self.holds_only
        self.part = self.settled = self.room = self.others = self.reported = 0
        self.base: int | None = None
        self.epoch = -1
        self.idle_ticks = self.allowance = self.batched = 0
        self.max_room: float = 0
        self.is_known = self.is_active = self.was_held = False
        self.seen_at = -inf

    @property
    def used(self) -> int:
        """What this process has used."""
        return self.part - self.room if self.charges else self.settled

    @property
    def reserved(self) -> int:
        """What requests in progress hold."""
        return 0 if self.charges else self.part - self.room - self.settled

    @property
    def remaining(self) -> int:
        """The remaining amount of the limit, as far as this process knows."""
        return max(self.amount - self.others - self.part + self.room, 0)

    @property
    def is_tight(self) -> bool:
        """Whether little is left that no process holds."""
        return (self.remaining - max(self.room, 0)) * _TIGHT_PARTS < self.amount

    @property
    def is_far(self) -> bool:
        """Whether a report can wait: the limit is far, and little of the block is used.

        Until then, other processes count the whole block as used.
        """
        block = self.allowance
        is_little = self.used - self.reported <= block <= 2 * self.room
        return block > 0 and is_little and not self.is_tight

    def set_room(self, room: int) -> None:
        """Change the room; what is used and reserved stays."""
        self.part += room - self.room
        self.room = room

    def set_used(self, used: int) -> None:
        """Change what is used; what is reserved and the room stay."""
        self.part += used - self.used
        if not self.charges:
            self.settled = used

    def update_max_room(self) -> None:
        """Decide how much room may wait for the next report: any, while there is enough for all."""
        may_keep_all = self.allowance > 0 and not self.is_tight
        self.max_room = inf if may_keep_all else self.allowance

    def set_allowance(self, holders: int) -> None:
        """Share blocks with so many processes; limits that are small have no blocks."""
        block = self.amount // (_BLOCK_PARTS * holders)
        self.allowance = block if block >= _MIN_BLOCK else 0

    def set_amount(self, amount: int, *, is_shared: bool) -> None:
        """Change the limit; what is in use stays."""
        amount = min(amount, MAX_AMOUNT)
        if amount != self.amount:
            self.set_room(0 if is_shared else self.room + amount - self.amount)
            self.amount = amount
            self.allowance = 0

    def build_report(self, *, held: int, wish: int) -> Report:
        """Return the report of this counter."""
        return Report(
            self.key,
            self.ends_at,
            self.amount,
            self.used,
            held,
            wish,
            self.charges,
            self.rebuilds and not self.is_known,
            self.base,
        )


def build_key(limit: Limit, span: Span) -> str:
    """Return the key of a counter; ids and names may have any characters."""
    scope = limit.scope
    model = "" if scope.model is None else "=" + quote(scope.model, safe="")
    parts = [scope.kind, quote(scope.id, safe=""), model, limit.unit, limit.window]
    return f"{':'.join(parts)}:{span.start:.0f}"
