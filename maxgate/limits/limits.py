"""The limits of a gateway: what enforces them, and what keeps their counters."""

from collections.abc import Callable, Sequence

from maxgate.clock import Clock
from maxgate.generation.backend import Backend
from maxgate.generation.guard import Guard, NoGuard
from maxgate.limits.alerts import AlertSink, NoAlerts
from maxgate.limits.counters import Counters
from maxgate.limits.exchanges import CountUsed
from maxgate.limits.guard import LimitEdge, LimitGuard, RequestSizeLayer
from maxgate.limits.limit import Limit, LimitSource
from maxgate.limits.planner import Planner, Price, ignore_price
from maxgate.limits.settings import LimitSettings
from maxgate.limits.sources import CombinedSource, SettingsSource
from maxgate.limits.table import CounterTable


class Limits:
    """Enforces the limits of the settings and of further sources.

    `price` returns what usage costs in millionths, and `count_used` what the ledger has of a limit.
    `count` counts refusals, and `report` gets whether this process counts alone. `find_batch_size`
    returns how many requests the engine of a model works on at once.
    """

    def __init__(
        self,
        settings: LimitSettings,
        table: CounterTable,
        clock: Clock,
        *,
        sources: Sequence[LimitSource] = (),
        processes: int = 1,
        price: Price | None = None,
        count_used: CountUsed | None = None,
        count: Callable[[Limit], None] = lambda _: None,
        report: Callable[[bool], None] = lambda _: None,
        alerts: AlertSink | None = None,
        find_batch_size: Callable[[str], int] = lambda _: 1,
    ) -> None:
        own = [SettingsSource(settings)] if settings.is_enabled else []
        all_sources = [*own, *sources]
        self.counters = Counters(
            table, clock, processes=processes, count_used=count_used, report=report
        )
        self._planner = Planner(
            all_sources[0] if len(all_sources) == 1 else CombinedSource(all_sources),
            self.counters,
            clock,
            assumed_output=settings.assumed_output_tokens,
            price=price or ignore_price,
            count=count,
            alerts=alerts or NoAlerts(),
            find_batch_size=find_batch_size,
        )
        self.edge = LimitEdge(self._planner)

    def guard(self, inner: Guard | None) -> LimitGuard:
        """Return a guard that reserves before `inner` admits."""
        return LimitGuard(self._planner, inner or NoGuard())

    @property
    def bounds_requests(self) -> bool:
        """Whether there is a limit of tokens per request now."""
        return self._planner.bounds_requests

    def layer(self, inner: Backend) -> RequestSizeLayer:
        """Return a layer that bounds the output of requests."""
        return RequestSizeLayer(inner, self._planner)
