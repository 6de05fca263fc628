"""OpenAI's headers of rate limits."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from math import ceil, isfinite
from typing import Final, NamedTuple

from maxgate.limits.counter import Counter
from maxgate.limits.limit import Unit
from maxgate.limits.table import MAX_AMOUNT

_KINDS: Final[Mapping[Unit, bytes]] = {
    "requests": b"requests",
    "tokens": b"tokens",
    "input_tokens": b"tokens",
    "output_tokens": b"tokens",
}


class HeaderGroup(NamedTuple):
    """The counters of one kind, and the beginnings of their headers."""

    counters: Sequence[Counter]
    limit: bytes
    remaining: bytes
    reset: bytes


def group_counters(counters: Iterable[Counter]) -> list[HeaderGroup]:
    """Group the counters that headers describe; those of budgets and endless windows are not."""
    kinds: dict[bytes, list[Counter]] = {}
    for counter in counters:
        kind = _KINDS.get(counter.limit.unit)
        if kind is not None and not counter.limit.is_budget and isfinite(counter.ends_at):
            kinds.setdefault(kind, []).append(counter)
    names = b"x-ratelimit-limit-", b"x-ratelimit-remaining-", b"x-ratelimit-reset-"
    return [HeaderGroup(group, *[name + kind for name in names]) for kind, group in kinds.items()]


def format_headers(groups: Sequence[HeaderGroup], now: float) -> list[tuple[bytes, bytes]]:
    """Return the headers of the tightest limit of each kind; `now` is in seconds since 1970."""
    headers: list[tuple[bytes, bytes]] = []
    for counters, limit, remaining, reset in groups:
        least, tightest = MAX_AMOUNT, counters[0]
        for counter in counters:
            rest = counter.amount - counter.others - counter.used - counter.reserved
            if rest < least:
                least, tightest = rest, counter
        seconds = tightest.ends_at - now
        headers += (
            (limit, b"%d" % tightest.amount),
            (remaining, b"%d" % max(least, 0)),
            (reset, format_duration(ceil(seconds) if seconds > 1 else round(seconds, 3))),
        )
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
