"""OpenAI's headers of rate limits."""

import asyncio
from collections.abc import Mapping
from functools import lru_cache
from math import ceil, inf, isfinite
from typing import Final

from maxgate.limits.counter import Counter
from maxgate.limits.entries import Entries
from maxgate.limits.limit import Unit

_KINDS: Final[Mapping[Unit, bytes]] = {
    "requests": b"requests",
    "tokens": b"tokens",
    "input_tokens": b"tokens",
    "output_tokens": b"tokens",
}
_MIN_USES: Final = 2
"""Number of responses after the first from which on sharing lines costs less than it saves."""
_UNSHARED: Final = 16
"""Responses without shared lines until sharing is tried again."""


class LimitHeaders:
    """The header lines of the tightest limit of each kind.

    Responses that begin in one iteration of the event loop share `lines`, if enough of them do:
    `uses` counts those after the first. Amount and reset are kept for the second in which they are
    right, from `since` to `until`, in seconds since 1970, and only in one `version` of counters: in
    it, the rest of a limit changes only with the room of this process.
    """

    __slots__ = (
        "_entries",
        "_groups",
        "_others",
        "_since",
        "_template",
        "_tightest",
        "_unshared",
        "_until",
        "_version",
        "lines",
        "uses",
    )

    def __init__(self, entries: Entries) -> None:
        """Describe the counters of entries, but not those of budgets and endless windows."""
        groups: dict[bytes, list[Counter]] = {}
        for counter, _ in entries.all:
            kind = _KINDS.get(counter.limit.unit)
            if kind is not None and not counter.limit.is_budget and isfinite(counter.ends_at):
                groups.setdefault(kind, []).append(counter)
        self._entries = entries
        self._groups = groups
        self._version = -1
        self._unshared = self.uses = 0
        self.lines: bytes | None = None

    def _forget(self) -> None:
        self.lines = None
        if self.uses < _MIN_USES:
            self._unshared = _UNSHARED
        self.uses = 0

    def format(self, now: float, version: int) -> bytes:
        """Return the lines at a time in seconds since 1970, in a version of the counters.

        Each ends with CR and LF. What the block of the caller has left is free, and what its ended
        requests have not used; blocks of others are not. Call this if there are no `lines` to
        share.
        """
        if version != self._version:
            self._renew(now, version)
        elif not self._since <= now < self._until:
            self._write_template(now)
        entries = self._entries
        requests, tokens = entries.ready, entries.ready_tokens + entries.unused_tokens
        for other, lead, tightest in self._others:
            if other.room + lead < tightest.room:
                self._renew(now, version)
                return self.format(now, version)
        amounts: tuple[int, ...] = ()
        for counter, rest in self._tightest:
            free = requests if counter.charges else tokens
            amounts += (max(counter.room + rest + free, 0),)
        lines = self._template % amounts
        if self._unshared:
            self._unshared -= 1
        else:
            self.lines = lines
            asyncio.get_running_loop().call_soon(self._forget)
        return lines

    def _renew(self, now: float, version: int) -> None:
        """Find the tightest limits."""
        self._version = version
        self._tightest = []
        self._others = []
        for counters in self._groups.values():
            tightest = min(counters, key=_find_left)
            rest = _find_left(tightest) - tightest.room
            self._others += [
                (other, _find_left(other) - other.room - rest, tightest)
                for other in counters
                if other is not tightest
            ]
            self._tightest.append((tightest, rest))
        self._write_template(now)

    def _write_template(self, now: float) -> None:
        """Build the lines without the amounts that remain."""
        self._since, self._until = -inf, inf
        self._template = b""
        for kind, (tightest, _) in zip(self._groups, self._tightest, strict=True):
            self._template += (
                b"x-ratelimit-limit-%b: %d\r\n"
                b"x-ratelimit-remaining-%b: %%d\r\n"
                b"x-ratelimit-reset-%b: %b\r\n"
            ) % (kind, tightest.amount, kind, kind, self._format_reset(tightest.ends_at, now))

    def _format_reset(self, ends_at: float, now: float) -> bytes:
        seconds = ends_at - now
        if seconds <= 1:
            self._until = -inf  # it changes with each millisecond
            return format_duration(round(seconds, 3)).encode()
        whole = ceil(seconds)
        self._since = max(self._since, ends_at - whole)
        self._until = min(self._until, ends_at - whole + 1)
        return format_duration(whole).encode()


def _find_left(counter: Counter) -> int:
    return counter.amount - counter.others - counter.part + counter.room


def split_lines(lines: bytes) -> list[tuple[bytes, bytes]]:
    """Return the names and values of header lines."""
    pairs = [line.partition(b": ") for line in lines.split(b"\r\n")[:-1]]
    return [(name, value) for name, _, value in pairs]


@lru_cache(maxsize=4096)
def format_duration(seconds: float) -> str:
    """Format a duration as Go does: `12ms`, `6m0s`, `23h0m1s`."""
    if seconds < 1:
        return f"{max(round(seconds * 1000), 0)}ms"
    minutes, rest = divmod(int(seconds), 60)
    if not minutes:
        return f"{rest}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s"
