"""The table of one process, and the reference of the others."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import uuid4

from typing_extensions import override

from maxgate.clock import Clock, SystemClock
from maxgate.limits.table import (
    FORGET_SECONDS,
    GRACE_SECONDS,
    LEASE_SECONDS,
    CounterTable,
    Reply,
    Report,
    State,
    Take,
    choose_takes,
)

_CLEAN_SECONDS: Final = 60.0


@dataclass(slots=True)
class _Row:
    ends_at: float
    base: int
    used: dict[str, int] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)


class MemoryTable(CounterTable):
    """Counters in memory; several holders share it in tests only."""

    is_local = True

    def __init__(self, clock: Clock | None = None, *, is_shared: bool = False) -> None:
        self.is_shared = is_shared
        self._clock = clock or SystemClock()
        self._rows: dict[str, _Row] = {}
        self._leases: dict[str, float] = {}
        self._birth = uuid4().hex
        self._clean_at = 0.0

    @override
    async def exchange(
        self, holder: str, reports: Sequence[Report], takes: Sequence[Take], birth: str = ""
    ) -> Reply:
        return self.exchange_now(holder, reports, takes, birth)

    @override
    def exchange_now(
        self, holder: str, reports: Sequence[Report], takes: Sequence[Take], birth: str = ""
    ) -> Reply:
        now = self._clock.monotonic()
        self._leases[holder] = now + LEASE_SECONDS
        self._clean(now)
        alive = {name for name, expires_at in self._leases.items() if now < expires_at}
        missing = [
            index
            for index, report in enumerate(reports)
            if report.rebuilds and report.base is None and report.key not in self._rows
        ]
        if missing or birth not in {"", self._birth}:
            return Reply((), (), len(alive), self._birth, missing)
        rows, others = [], []
        for report in reports:
            row = self._rows.get(report.key)
            if row is None:
                row = self._rows[report.key] = _Row(report.ends_at, report.base or 0)
            row.used[holder], row.held[holder] = report.used, report.held
            rows.append(row)
            total = row.base + sum(row.used.values())
            total += sum([held for name, held in row.held.items() if name in alive])
            others.append(total - report.used - report.held)
        totals = [
            other + report.used + report.held for other, report in zip(others, reports, strict=True)
        ]
        refused, taken = choose_takes(reports, totals, takes)
        states = []
        for index, (row, report) in enumerate(zip(rows, reports, strict=True)):
            if report.charges:
                row.used[holder] += taken[index]
            else:
                row.held[holder] += taken[index]
            row.held[holder] += max(min(report.wish, report.limit - totals[index]), 0)
            states.append(State(row.held[holder], others[index]))
        return Reply(states, refused, len(alive), self._birth)

    @override
    async def leave(self, holder: str) -> None:
        self._leases.pop(holder, None)

    def clear(self) -> None:
        """Lose all data, as a Redis that is restarted does."""
        self._rows.clear()
        self._leases.clear()
        self._birth = uuid4().hex

    def _clean(self, now: float) -> None:
        if now < self._clean_at:
            return
        self._clean_at = now + _CLEAN_SECONDS
        wall = self._clock.wall()
        for key, row in list(self._rows.items()):
            if wall >= row.ends_at + GRACE_SECONDS:
                del self._rows[key]
        for holder, expires_at in list(self._leases.items()):
            if now >= expires_at + FORGET_SECONDS:
                del self._leases[holder]
                for row in self._rows.values():
                    row.base += row.used.pop(holder, 0)
                    row.held.pop(holder, None)
