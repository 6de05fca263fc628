"""The usage of a limit according to the ledger, from which lost counters are rebuilt."""

from collections.abc import Mapping
from typing import Final

from maxgate.limits.limit import Limit, ScopeKind, Unit, Window
from maxgate.stores.usage import Dimension, Width
from maxgate.usage.rate_cards import MILLIONTH, round_amount
from maxgate.usage.reports import ReportQuery, ReportRow, UsageReports

_DIMENSIONS: Final[Mapping[ScopeKind, Dimension]] = {
    "key": "api_key_id",
    "user": "user_id",
    "project": "project_id",
}
_WIDTHS: Final[Mapping[Window, Width]] = {"total": "1d", "month": "1h", "week": "1h"}


class WindowUse:
    """Sums the recorded use of limits; lines that are still in a spool are missing."""

    def __init__(self, reports: UsageReports) -> None:
        self._reports = reports

    async def __call__(self, limit: Limit, start: float) -> int:
        """Return the use since a time in seconds since 1970, in the unit of the limit.

        Raises StoreUnavailable.
        """
        filters: dict[Dimension, frozenset[str]] = {}
        if (dimension := _DIMENSIONS.get(limit.scope.kind)) is not None:
            filters[dimension] = frozenset({limit.scope.id})
        if limit.scope.model is not None:
            filters["model"] = frozenset({limit.scope.model})
        width = _WIDTHS.get(limit.window, "1m")
        end = int(self._reports.now()) + 1
        rows = await self._reports.sum(ReportQuery(width, int(start), end, filters=filters))
        return sum([_measure(limit.unit, row) for row in rows])


def _measure(unit: Unit, row: ReportRow) -> int:
    amounts: dict[Unit, int] = {
        "requests": row.requests,
        "tokens": row.input_tokens + row.output_tokens,
        "input_tokens": row.input_tokens,
        "output_tokens": row.output_tokens,
        "money": round_amount(row.charge.price.total, MILLIONTH),
        "gpu_milliseconds": round(row.gpu_seconds * 1000),
    }
    return amounts.get(unit, 0)  # concurrent requests are not in the ledger
