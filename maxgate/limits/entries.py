"""The counters that requests take from, with the places of their amounts."""

from collections.abc import Sequence
from math import inf
from typing import Final, Self, TypeAlias

from maxgate.limits.counter import Counter
from maxgate.limits.exchanges import Costs
from maxgate.limits.limit import Unit

UNITS: Final[Sequence[Unit]] = (
    "requests",
    "tokens",
    "input_tokens",
    "output_tokens",
    "concurrent_requests",
    "money",
    "gpu_milliseconds",
)
"""Units whose amounts are counted; the entries of a plan have their indexes."""
TOKENS: Final = UNITS.index("tokens")
Amounts: TypeAlias = tuple[int, int, int, int, int, int, int]
"""Amounts of all units, in the order of UNITS; a named tuple would take longer to create."""


class Entries:
    """Counters that requests take, each once and with the index of its amount.

    Those that are `charging` use what is taken at once, and those that are `holding` hold it until
    the request ends. In this `version`, room was valid, all counters are reported with the next
    tick, and only those that are `bounded` have a bound of their room. The first window ends at
    `ends_at`, in seconds since 1970.

    Entries that are `is_batched` hold only tokens and slots, and may be `in_batch`; see Batch. Of a
    block, `ready` requests and `ready_tokens` are left until `ready_until` on the monotonic clock.
    `expected` is the number of requests that the last batch took or settled, at least half of what
    it was before. `taken` counts those of this batch from the first block on, the rest of the block
    included. `ended` requests wait to be settled: they used `used_tokens` and left `unused_tokens`.
    The next `unbatched` ones are settled at once, and `counted_at` is the monotonic time from which
    they are counted. A request that ends waits if the entries `defer`.
    """

    __slots__ = (
        "all",
        "bounded",
        "charging",
        "counted_at",
        "defer",
        "ended",
        "ends_at",
        "expected",
        "holding",
        "in_batch",
        "is_batched",
        "ready",
        "ready_tokens",
        "ready_until",
        "taken",
        "unbatched",
        "unused_tokens",
        "used_tokens",
        "version",
    )

    def __init__(self, entries: Sequence[tuple[Counter, int]], *, is_batched: bool = False) -> None:
        self.all = entries
        self.charging = [entry for entry in entries if entry[0].charges]
        self.holding = [entry for entry in entries if not entry[0].charges]
        self.ends_at = min([counter.ends_at for counter, _ in entries], default=inf)
        self.bounded: Sequence[Counter] = ()
        self.version = -1
        self.is_batched = is_batched
        self.defer = self.in_batch = False
        self.ended = self.used_tokens = self.unused_tokens = 0
        self.ready = self.ready_tokens = self.taken = self.expected = 0
        self.unbatched = 1
        self.counted_at = self.ready_until = -inf

    @classmethod
    def of(cls, costs: Costs) -> Self:
        """Return the counters of costs, whose amounts are in the order of the costs."""
        return cls([(counter, index) for index, (counter, _) in enumerate(costs)])

    def take_ready(self, tokens: int, now: float) -> bool:
        """Take a request from the block, at a monotonic time; False if the block is not enough."""
        rest = self.ready_tokens - tokens
        if not self.ready or rest < 0 or now >= self.ready_until:
            return False
        self.ready -= 1
        self.ready_tokens = rest
        return True

    def update_defer(self) -> None:
        """Decide whether requests that end wait to be settled."""
        self.defer = self.is_batched and not self.bounded and not self.unbatched

    def undo(self, amounts: Sequence[int], refusing: Counter) -> None:
        """Return what was taken of the counters before the refusing one."""
        for counter, index in self.all:
            if counter is refusing:
                return
            counter.room += amounts[index]
