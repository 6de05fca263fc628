"""The counters that requests take from, with the places of their amounts."""

from collections.abc import Sequence
from typing import Self

from maxgate.limits.counter import Counter
from maxgate.limits.exchanges import Costs


class Entries:
    """Counters that requests take, each once and with the index of its amount.

    Those that are `charging` use what is taken at once, and those that are `holding` hold it until
    the request ends. In this `version`, room was valid, all counters are reported with the next
    tick, and only those that are `bounded` have a bound of their room.
    """

    __slots__ = ("all", "bounded", "charging", "holding", "version")

    def __init__(self, entries: Sequence[tuple[Counter, int]]) -> None:
        self.all = entries
        self.charging = [entry for entry in entries if entry[0].charges]
        self.holding = [entry for entry in entries if not entry[0].charges]
        self.bounded: Sequence[Counter] = ()
        self.version = -1

    @classmethod
    def of(cls, costs: Costs) -> Self:
        """Return the counters of costs, whose amounts are in the order of the costs."""
        return cls([(counter, index) for index, (counter, _) in enumerate(costs)])

    def undo(self, amounts: Sequence[int], refusing: Counter) -> None:
        """Return what was taken of the counters before the refusing one."""
        for counter, index in self.all:
            if counter is refusing:
                return
            counter.room += amounts[index]
