"""OpenAI's headers of rate limits."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from math import ceil, inf, isfinite
from typing import Final

from maxgate.limits.counter import Counter
from maxgate.limits.limit import Unit
from maxgate.limits.table import MAX_AMOUNT

_KINDS: Final[Mapping[Unit, bytes]] = {
    "requests": b"requests",
    "tokens": b"tokens",
    "input_tokens": b"tokens",
    "output_tokens": b"tokens",
}


class HeaderGroup:
    """The counters of one kind, and the headers of the tightest one.

    Those of its limit and reset are kept for the second in which they are right: `since` is the
    beginning and `until` the end, in seconds since 1970. `rests` has for each counter what is left
    without the room of this process, which is right in one `version` of counters.
    """

    __slots__ = (
        "counters",
        "kind",
        "limit",
        "remaining",
        "reset",
        "rests",
        "since",
        "tightest",
        "until",
        "version",
    )

    def __init__(self, kind: bytes, counters: Sequence[Counter]) -> None:
        self.kind = kind
        self.counters = counters
        self.remaining = b"x-ratelimit-remaining-" + kind
        self.since, self.until = inf, -inf
        self.version = -1

    def weigh(self, version: int) -> None:
        """Compute what is left of each limit, after a change of counters."""
        self.version = version
        self.rests = [
            (c, c.amount - c.others - c.used - c.reserved - c.room) for c in self.counters
        ]
        self.since, self.until = inf, -inf  # the limit may have another amount

    def describe(self, tightest: Counter, now: float) -> None:
        """Build the headers of a limit, and of the time until its window ends."""
        self.tightest = tightest
        seconds = tightest.ends_at - now
        whole = ceil(seconds)
        if seconds > 1:
            self.since, self.until = tightest.ends_at - whole, tightest.ends_at - whole + 1
        else:
            self.since, self.until = inf, -inf
        text = format_duration(whole if seconds > 1 else round(seconds, 3))
        self.limit = b"x-ratelimit-limit-" + self.kind, b"%d" % tightest.amount
        self.reset = b"x-ratelimit-reset-" + self.kind, text


def group_counters(counters: Iterable[Counter]) -> list[HeaderGroup]:
    """Group the counters that headers describe; those of budgets and endless windows are not."""
    kinds: dict[bytes, list[Counter]] = {}
    for counter in counters:
        kind = _KINDS.get(counter.limit.unit)
        if kind is not None and not counter.limit.is_budget and isfinite(counter.ends_at):
            kinds.setdefault(kind, []).append(counter)
    return [HeaderGroup(kind, group) for kind, group in kinds.items()]


def format_headers(
    groups: Sequence[HeaderGroup], now: float, version: int
) -> list[tuple[bytes, bytes]]:
    """Return the headers of the tightest limit of each kind.

    `now` is in seconds since 1970, and `version` that of the counters.
    """
    headers: list[tuple[bytes, bytes]] = []
    for group in groups:
        if group.version != version:
            group.weigh(version)
        least, tightest = MAX_AMOUNT, group.counters[0]
        for counter, rest in group.rests:
            left = rest + counter.room
            if left < least:
                least, tightest = left, counter
        if not group.since <= now < group.until or tightest is not group.tightest:
            group.describe(tightest, now)
        remaining = group.remaining, b"%d" % least if least > 0 else b"0"
        headers += (group.limit, remaining, group.reset)
    return headers


@lru_cache(maxsize=4096)
def format_duration(seconds: float) -> bytes:
    """Format a duration as Go does: `12ms`, `6m0s`, `23h0m1s`."""
    if seconds < 1:
        return b"%dms" % max(round(seconds * 1000), 0)
    minutes, rest = divmod(int(seconds), 60)
    if not minutes:
        return b"%ds" % rest
    hours, minutes = divmod(minutes, 60)
    return b"%dh%dm%ds" % (hours, minutes, rest) if hours else b"%dm%ds" % (minutes, rest)
