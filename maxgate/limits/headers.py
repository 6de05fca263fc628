"""OpenAI's headers of rate limits."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from math import ceil, inf, isfinite
from typing import Final

from maxgate.limits.counter import Counter
from maxgate.limits.limit import Unit

_KINDS: Final[Mapping[Unit, str]] = {
    "requests": "requests",
    "tokens": "tokens",
    "input_tokens": "tokens",
    "output_tokens": "tokens",
}


class LimitHeaders:
    """The header lines of the tightest limit of each kind.

    Keeps amount and reset for the second in which they are right, from `since` to `until`, in
    seconds since 1970, and only in one `version` of counters: in it, the rest of a limit changes
    only with the room of this process.
    """

    __slots__ = ("_groups", "_others", "_since", "_tightest", "_until", "_version")

    def __init__(self, counters: Iterable[Counter]) -> None:
        """Describe these counters, but not those of budgets and endless windows."""
        groups: dict[str, list[Counter]] = {}
        for counter in counters:
            kind = _KINDS.get(counter.limit.unit)
            if kind is not None and not counter.limit.is_budget and isfinite(counter.ends_at):
                groups.setdefault(kind, []).append(counter)
        self._groups = groups
        self._version = -1

    def format(self, now: float, version: int) -> bytes:
        """Return the lines at a time in seconds since 1970, in a version of the counters.

        Each ends with CR and LF.
        """
        if version != self._version or not self._since <= now < self._until:
            self._renew(now, version)
        for other, lead, tightest in self._others:
            if other.room + lead < tightest.room:
                self._renew(now, version)
                return self.format(now, version)
        lines = ""
        for before, tightest, rest, after in self._tightest:
            left = rest + tightest.room
            lines += f"{before}{left if left > 0 else 0}{after}"
        return lines.encode("ascii")

    def _renew(self, now: float, version: int) -> None:
        """Find the tightest limits, and build what does not change with every request."""
        self._version = version
        self._since, self._until = -inf, inf
        self._tightest = []
        self._others = []
        for kind, counters in self._groups.items():
            tightest = min(counters, key=_find_left)
            rest = _find_left(tightest) - tightest.room
            self._others += [
                (other, _find_left(other) - other.room - rest, tightest)
                for other in counters
                if other is not tightest
            ]
            before = (
                f"x-ratelimit-limit-{kind}: {tightest.amount}\r\nx-ratelimit-remaining-{kind}: "
            )
            reset = self._format_reset(tightest.ends_at, now)
            after = f"\r\nx-ratelimit-reset-{kind}: {reset}\r\n"
            self._tightest.append((before, tightest, rest, after))

    def _format_reset(self, ends_at: float, now: float) -> str:
        seconds = ends_at - now
        if seconds <= 1:
            self._until = -inf  # it changes with each millisecond
            return format_duration(round(seconds, 3))
        whole = ceil(seconds)
        self._since = max(self._since, ends_at - whole)
        self._until = min(self._until, ends_at - whole + 1)
        return format_duration(whole)


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
