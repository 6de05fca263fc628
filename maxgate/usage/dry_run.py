"""Replays recorded requests against a limit that is not in force.

The replay counts the real usage of each request when it arrives. The gateway reserves the most that
a request may use first and returns the rest later, so that it may refuse more while many requests
run at once.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Final, TypeAlias

from maxgate.generation.chunk import Usage
from maxgate.limits.limit import ScopeKind, Unit, Window
from maxgate.stores.usage import UsageEntry
from maxgate.usage.rate_cards import RateCards

FindSpan: TypeAlias = Callable[[Window, str, float], tuple[float, float]]
"""Returns start and end of the window of a time zone that contains a time."""

_COUNTERS: Final[dict[Unit, Callable[[UsageEntry], int]]] = {
    "requests": lambda _: 1,
    "concurrent_requests": lambda _: 1,
    "tokens": lambda entry: entry.input_tokens + entry.output_tokens,
    "tokens_per_request": lambda entry: entry.input_tokens + entry.output_tokens,
    "input_tokens": lambda entry: entry.input_tokens,
    "output_tokens": lambda entry: entry.output_tokens,
    "gpu_milliseconds": lambda entry: round(entry.gpu_seconds * 1000),
}


@dataclass(frozen=True, slots=True)
class Trial:
    """A limit of each key, user or project, or of the organization; see Limit."""

    per: ScopeKind
    unit: Unit
    window: Window
    amount: int
    model: str | None = None
    time_zone: str = "UTC"


@dataclass(slots=True)
class TrialResult:
    """The requests of one scope; `peak` is the most that it used in a window, refusals aside.

    Times are in Unix seconds, None without refusals.
    """

    scope_id: str
    requests: int = 0
    refused: int = 0
    peak: int = 0
    first_refused_at: float | None = None
    last_refused_at: float | None = None


@dataclass(slots=True)
class _Counter:
    """The usage of a scope in its present window; `ends` are those of running requests."""

    window_end: float = 0.0
    used: int = 0
    ends: list[float] = field(default_factory=list)


def replay(
    entries: Iterable[UsageEntry], trial: Trial, find_span: FindSpan, cards: RateCards
) -> Sequence[TrialResult]:
    """Return the result of each scope, those with the most refusals first.

    `entries` may have any order. Requests that were refused in reality count like all others.
    """
    counters: dict[str, _Counter] = {}
    results: dict[str, TrialResult] = {}
    for entry in sorted(entries, key=_find_arrival):
        if trial.model is not None and entry.model != trial.model:
            continue
        scope_id = _find_scope(entry, trial.per)
        result = results.setdefault(scope_id, TrialResult(scope_id))
        counter = counters.setdefault(scope_id, _Counter())
        amount = _count(entry, trial.unit, cards)
        used = _find_used(counter, entry, trial, find_span)
        result.requests += 1
        if used + amount > trial.amount:
            at = _find_arrival(entry)
            result.refused += 1
            result.last_refused_at = at
            if result.first_refused_at is None:
                result.first_refused_at = at
            continue
        counter.used = used + amount
        heappush(counter.ends, entry.finished_at)
        result.peak = max(result.peak, counter.used)
    return sorted(results.values(), key=lambda one: (-one.refused, -one.requests, one.scope_id))


def _find_used(counter: _Counter, entry: UsageEntry, trial: Trial, find_span: FindSpan) -> int:
    """Return what the scope has used of the limit when a request arrives."""
    at = _find_arrival(entry)
    if trial.unit == "tokens_per_request":
        return 0
    if trial.unit == "concurrent_requests":
        while counter.ends and counter.ends[0] <= at:
            heappop(counter.ends)
        return len(counter.ends)
    if at >= counter.window_end:
        counter.window_end = find_span(trial.window, trial.time_zone, at)[1]
        counter.used = 0
    return counter.used


def _count(entry: UsageEntry, unit: Unit, cards: RateCards) -> int:
    if unit == "money":
        usage = Usage(entry.input_tokens, entry.output_tokens, entry.cached_tokens)
        return cards.price(entry.model, usage, entry.finished_at, entry.gpu_seconds)
    return _COUNTERS[unit](entry)


def _find_arrival(entry: UsageEntry) -> float:
    return entry.finished_at - entry.total_seconds


def _find_scope(entry: UsageEntry, per: ScopeKind) -> str:
    match per:
        case "key":
            return entry.api_key_id
        case "user":
            return entry.user_id
        case "project":
            return entry.project_id
        case "organization":
            return ""
