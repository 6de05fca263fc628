"""Builds limits and budgets, their counters, and their alerts."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from maxgate.clock import Clock
from maxgate.composition.identity import Keys
from maxgate.composition.tasks import running
from maxgate.composition.usage import Billing
from maxgate.generation.guard import Guard
from maxgate.installation import requires_extra
from maxgate.limits.alerts import WebhookAlerts
from maxgate.limits.file_table import FileTable
from maxgate.limits.limit import EdgeLimits, Limit
from maxgate.limits.limits import Limits
from maxgate.limits.memory_table import MemoryTable
from maxgate.limits.stored_limits import StoredLimits
from maxgate.limits.table import CounterTable
from maxgate.model_cards.card import ModelCard, map_names
from maxgate.pipeline import Layer
from maxgate.settings import Settings
from maxgate.telemetry.metrics_store import MetricsStore
from maxgate.telemetry.registry import (
    LIMIT_REFUSALS,
    LIMITS_DEGRADED,
)


@dataclass(frozen=True)
class LimitParts:
    """Enforcement of limits, limits of the database, and alerts; None where there is none."""

    limits: Limits | None = None
    stored: StoredLimits | None = None
    alerts: WebhookAlerts | None = None

    @property
    def edge(self) -> EdgeLimits | None:
        """The limits that are checked before a body is read."""
        return None if self.limits is None else self.limits.edge

    @property
    def layers(self) -> Sequence[Layer]:
        """The layers that bound the output of requests; limits of the database may change."""
        if self.limits is None or not (self.stored or self.limits.bounds_requests):
            return []
        return [self.limits.layer]

    def guard(self, inner: Guard | None) -> Guard | None:
        """Return a guard that reserves before `inner` admits."""
        return inner if self.limits is None else self.limits.guard(inner)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Read limits, send alerts and share counters during the block."""
        async with AsyncExitStack() as resources:
            if self.stored is not None:
                await self.stored.start()
                await resources.enter_async_context(running(self.stored.run()))
            if self.alerts is not None:
                await resources.enter_async_context(aclosing(self.alerts))
                await resources.enter_async_context(running(self.alerts.run()))
            if self.limits is not None:
                await self.limits.counters.join()
                await resources.enter_async_context(running(self.limits.counters.run()))
            yield


def build_limits(
    settings: Settings,
    cards: Sequence[ModelCard],
    clock: Clock,
    metrics: MetricsStore,
    keys: Keys,
    billing: Billing,
    folder: Path | None,
) -> LimitParts:
    """Build the limits of the settings and of the database of keys.

    `folder` is that of the counters of all workers. Raises ConfigurationError if a package is
    missing, and for limits of models without a card.
    """
    names = map_names(cards)
    rules = settings.limits.name_models(names)
    stored = build_stored_limits(keys, names)
    alerts = build_alerts(settings, keys, clock)
    if stored is None and not settings.limits.is_enabled:
        return LimitParts(alerts=alerts)

    def count(limit: Limit) -> None:
        metrics.add(LIMIT_REFUSALS, (limit.scope.kind, limit.unit))

    limits = Limits(
        rules,
        build_counter_table(settings, clock, folder),
        clock,
        sources=[] if stored is None else [stored],
        processes=settings.server.workers,
        price=billing.price,
        count_used=billing.count_used,
        count=count,
        report=lambda is_degraded: metrics.set_gauge(LIMITS_DEGRADED, (), int(is_degraded)),
        alerts=alerts,
        find_batch_size=billing.find_batch_size,
    )
    return LimitParts(limits, stored, alerts)


def build_stored_limits(keys: Keys, names: Mapping[str, str]) -> StoredLimits | None:
    """Build the limits of the database, None without one; `names` has each name and alias."""
    if keys.identities is None:
        return None
    return StoredLimits(keys.identities.limits, aliases=names)


def build_alerts(settings: Settings, keys: Keys, clock: Clock) -> WebhookAlerts | None:
    """Build what sends alerts of budgets, None if there is no URL to send them to."""
    if settings.alerts.webhook_url is None:
        return None
    claims = None if keys.identities is None else keys.identities.limits
    return WebhookAlerts(settings.alerts, clock, claims)


def build_counter_table(settings: Settings, clock: Clock, folder: Path | None) -> CounterTable:
    """Build the counters that workers or gateways share, or those of one process.

    Raises ConfigurationError if a package is missing.
    """
    if settings.redis.url is None:
        return MemoryTable(clock) if folder is None else FileTable(folder / "limits", clock=clock)
    with requires_extra("redis.url", "redis"):
        from maxgate.limits.redis_table import RedisTable  # noqa: PLC0415  # an extra
        from maxgate.stores.redis import RedisStore  # noqa: PLC0415
    return RedisTable(RedisStore(settings.redis))
