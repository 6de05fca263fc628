"""OpenAI's headers of rate limits."""

from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Final

from maxgate.limits.counter import Counter
from maxgate.limits.limit import Unit

_KINDS: Final[Mapping[Unit, bytes]] = {
    "requests": b"requests",
    "tokens": b"tokens",
    "input_tokens": b"tokens",
    "output_tokens": b"tokens",
}


def format_headers(entries: Iterable[tuple[Counter, int]], now: float) -> list[tuple[bytes, bytes]]:
    """Return the headers of the tightest limit of requests, and of tokens.

    `now` is in seconds since 1970. Budgets have none.
    """
    tightest: dict[bytes, Counter] = {}
    for counter, _ in entries:
        kind = _KINDS.get(counter.limit.unit)
        if kind is None or counter.limit.is_budget or not isfinite(counter.ends_at):
            continue
        other = tightest.get(kind)
        if other is None or counter.remaining < other.remaining:
            tightest[kind] = counter
    headers = []
    for kind, counter in tightest.items():
        reset = format_duration(counter.ends_at - now).encode()
        headers += [
            (b"x-ratelimit-limit-" + kind, b"%d" % counter.amount),
            (b"x-ratelimit-remaining-" + kind, b"%d" % counter.remaining),
            (b"x-ratelimit-reset-" + kind, reset),
        ]
    return headers


def format_duration(seconds: float) -> str:
    """Format a duration as Go does: `12ms`, `1.5s`, `6m0s`, `23h0m1s`."""
    milliseconds = max(round(seconds * 1000), 0)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    text = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if not minutes:
        return text
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}"
