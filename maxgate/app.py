"""The application: what it is made of, its routes and its lifespan."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import (
    AsyncExitStack,
    aclosing,
    asynccontextmanager,
    suppress,
)
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx

from maxgate.admission.controller import AdmissionController
from maxgate.admission.held import HeldRequests
from maxgate.api.admin.routes import router as admin_router
from maxgate.api.admin.running_models import router as running_models_router
from maxgate.api.app import Gateway
from maxgate.api.chat.routes import chat_route
from maxgate.api.chat.service import ChatService
from maxgate.api.completions.routes import completion_route
from maxgate.api.completions.service import CompletionService
from maxgate.api.embeddings.routes import embedding_route
from maxgate.api.embeddings.service import EmbeddingService
from maxgate.api.event_stream import EventStreams
from maxgate.api.health import router as health_router
from maxgate.api.litellm.routes import router as litellm_router
from maxgate.api.litellm.spend import router as spend_router
from maxgate.api.metrics import router as metrics_router
from maxgate.api.models.routes import router as models_router
from maxgate.api.moderations.routes import moderation_route
from maxgate.api.moderations.service import ModerationService
from maxgate.api.organization.routes import router as organization_router
from maxgate.api.proxies import TrustedProxies
from maxgate.api.request_body import BodyReader
from maxgate.canary.worker import WorkerCanary
from maxgate.clock import Clock, SystemClock
from maxgate.composition.engines import (
    Control,
    Upstream,
    build_admission,
    build_canary,
    build_canary_control,
    build_control,
    build_formats,
    build_models,
    build_upstream,
)
from maxgate.composition.identity import Keys, build_keys, build_organization
from maxgate.composition.limits import LimitParts, build_limits
from maxgate.composition.pipelines import (
    build_backend,
    build_embedder,
    build_guardrails,
    build_moderator,
)
from maxgate.composition.system import build_system
from maxgate.composition.tasks import running
from maxgate.composition.tracing import TracingParts, build_tracing
from maxgate.composition.usage import Billing, build_billing
from maxgate.generation.backend import Backend, Embedder
from maxgate.generation.context import RequestContext
from maxgate.generation.moderation import Moderator
from maxgate.model_cards.loader import load_cards
from maxgate.model_swap.start_queue import StartQueue
from maxgate.settings import Settings
from maxgate.stores.usage import UsageStore
from maxgate.telemetry.logging import RequestLog, find_log_writer
from maxgate.telemetry.metrics_store import MetricsStore
from maxgate.telemetry.prometheus import MetricsReader
from maxgate.telemetry.registry import (
    CANCEL_DURATION,
    ENGINE_REQUESTS_OWN,
    ENGINE_WATCH_FAILURES,
    EVENT_LOOP_LAG,
    LOG_LINES_DROPPED,
    LOG_LINES_OMITTED,
)
from maxgate.telemetry.shared_counts import SharedCounts
from maxgate.telemetry.system import SystemReader, measure_lag
from maxgate.telemetry.worker_folder import leave
from maxgate.upstream.backend import UpstreamBackend
from maxgate.upstream.catalog import LiveCatalog
from maxgate.upstream.http1.transport import EngineTransport
from maxgate.upstream.retry_budget import WORDS

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

    from maxgate.guardrails.assembly import Guardrails

# Models beyond this number may share the retry budget of another one.
_RETRY_ROWS: Final = 64


_ROUTERS: Final = (
    models_router,
    admin_router,
    running_models_router,
    organization_router,
    litellm_router,
    spend_router,
    health_router,
    metrics_router,
)


def create_app(
    settings: Settings,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    clock: Clock | None = None,
    worker_folder: Path | None = None,
    on_startup: Callable[[], None] | None = None,
    control_path: Path | None = None,
    usage_store: UsageStore | None = None,
    span_processor: "SpanProcessor | None" = None,
) -> Gateway:
    """Build the gateway as a FastAPI application.

    `transport` replaces the engines and `clock` the time, in tests. `worker_folder` is for counters
    that are shared with other workers until the shutdown. `on_startup` runs on the event loop
    before anything else does. `control_path` is the socket of the parent process, if there is one.
    `usage_store` replaces the database of usage and `span_processor` the export of traces, in
    tests.

    Raises ConfigurationError for model cards and keys that cannot be read.
    """
    clock = clock or SystemClock()
    cards = load_cards(settings.cards, settings.cache_dir)
    formats = build_formats(settings, cards)
    folder = settings.telemetry.metrics_dir or worker_folder
    metrics = MetricsStore(clock, folder)
    keys = build_keys(settings, clock, metrics)
    billing = build_billing(settings, cards, clock, metrics, usage_store)
    tracing = build_tracing(settings, clock, metrics, folder, span_processor)
    limits = build_limits(settings, cards, clock, metrics, keys, billing, folder)

    retry_counts = SharedCounts(folder, rows=_RETRY_ROWS, words=WORDS)
    upstream = build_upstream(settings, cards, formats, transport, retry_counts)
    held = HeldRequests(settings.admission, {card.name: card.served_model_name for card in cards})
    admission = build_admission(settings, cards, upstream.pool, metrics, folder, held)
    guard = limits.guard(admission)
    upstream_backend = UpstreamBackend(upstream.pool, guard)
    canary = build_canary(settings, upstream, upstream_backend, transport, limits.guard(None))
    moderator = build_moderator(clock, formats, upstream_backend)
    guardrails = build_guardrails(settings, cards, upstream.catalog, metrics, moderator)
    backend = build_backend(clock, formats, upstream_backend, guardrails, limits, tracing.layer)
    embedder = build_embedder(settings, formats, upstream, guard, guardrails)

    starts = StartQueue(settings.swap, clock, held)
    running = set[RequestContext]()
    control = build_control(
        settings,
        upstream,
        build_models(cards, formats, upstream, starts, running),
        control_path,
        canary,
        keys.refresh,
    )
    resources = Resources(
        upstream,
        keys,
        billing,
        limits,
        tracing,
        guardrails,
        admission,
        control,
        canary,
        retry_counts,
        metrics,
        build_system(settings),
        on_startup,
        worker_folder,
    )
    app = Gateway(
        sinks=[metrics, build_request_log(settings, metrics), *billing.sinks, *tracing.sinks],
        clock=clock,
        lifespan=resources.running,
        allowed_hosts=settings.server.allowed_hosts,
        cors_origins=settings.server.cors_origins,
        format_price=billing.format_price,
        session_header=settings.routing.session_header,
        running=running,
        authentication=keys.authentication,
        limits=limits.edge,
        proxies=TrustedProxies(settings.server.trusted_proxies),
        serves_everyone=settings.auth.mode is not None,
        admin_port=settings.admin.port,
        ledger=billing.ledger,
        begin_trace=tracing.begin,
    )
    app.state.organization = build_organization(settings, keys, clock, limits.stored)
    provide(app, resources, metrics)
    _count_events(metrics, upstream)
    add_routes(app, settings, clock, upstream.catalog, backend, embedder, moderator, starts)
    return app


def build_request_log(settings: Settings, metrics: MetricsStore) -> RequestLog:
    """Build the sink that logs requests."""
    limit = settings.telemetry.success_lines_per_second
    return RequestLog(limit, metrics.prepare(LOG_LINES_OMITTED))


def add_routes(
    app: Gateway,
    settings: Settings,
    clock: Clock,
    catalog: LiveCatalog,
    backend: Backend,
    embedder: Embedder,
    moderator: Moderator,
    starts: StartQueue,
) -> None:
    """Add all routes; `starts` holds the requests for models that are not running."""
    server = settings.server
    bodies = BodyReader(max_bytes=server.max_body_bytes, timeout=server.request_read_timeout)
    app.state.bodies = bodies
    app.state.waits_for_engines = settings.swap.scale_up_time is not None
    streams = EventStreams(clock, server.keep_alive_interval)
    chat = ChatService(backend, catalog, clock)
    completions = CompletionService(backend, catalog, clock)
    app.add_hot_route(chat_route(chat, bodies, streams, starts))
    app.add_hot_route(completion_route(completions, bodies, streams, starts))
    app.add_hot_route(embedding_route(EmbeddingService(embedder, catalog), bodies, starts))
    app.add_hot_route(moderation_route(ModerationService(moderator, catalog), bodies, starts))
    for router in _ROUTERS:
        app.include_router(router)


def provide(app: Gateway, resources: "Resources", metrics: MetricsStore) -> None:
    """Give the ordinary routes and the server what they depend on."""
    upstream, control = resources.upstream, resources.control
    admission, billing = resources.admission, resources.billing
    app.state.metrics = MetricsReader(metrics, resources.system, resources.tracing.exemplars)
    app.state.canary_control = build_canary_control(control.engines, resources.canary)
    app.state.usage = billing.reports
    app.state.activity = billing.activity
    app.state.has_admins = billing.has_admins
    app.state.admission = admission
    if admission is not None:
        app.state.on_drain = admission.close
    app.state.catalog = upstream.catalog
    app.state.engines = upstream.replicas.replicas
    app.state.replica_set = upstream.replicas
    app.state.engine_control = control.engines
    app.state.model_control = control.models


def _count_events(metrics: MetricsStore, upstream: Upstream) -> None:
    upstream.engine_metrics.on_own(
        lambda url, change: metrics.add(ENGINE_REQUESTS_OWN, (url,), change)
    )
    if isinstance(upstream.client, EngineTransport):
        upstream.client.on_cancelled(partial(metrics.observe, CANCEL_DURATION, ()))
    upstream.monitor.on_failure(lambda url: metrics.add(ENGINE_WATCH_FAILURES, (url,)))
    if (writer := find_log_writer()) is not None:
        writer.on_drop(lambda lines: metrics.add(LOG_LINES_DROPPED, (), lines))


@dataclass(frozen=True)
class Resources:
    """Everything that is opened at the start and closed at the end."""

    upstream: Upstream
    keys: Keys
    billing: Billing
    limits: LimitParts
    tracing: TracingParts
    guardrails: "Guardrails | None"
    admission: AdmissionController | None
    control: Control
    canary: WorkerCanary
    retry_counts: SharedCounts
    metrics: MetricsStore
    system: SystemReader | None
    on_startup: Callable[[], None] | None
    worker_folder: Path | None

    @asynccontextmanager
    async def running(self, _: Gateway) -> AsyncIterator[None]:
        """Open every resource in order, and close them in reverse."""
        if self.on_startup is not None:
            self.on_startup()
        async with AsyncExitStack() as resources:
            # Plain uvicorn ends its process by a signal, so that no exit handler runs.
            resources.push_async_callback(_flush_log)
            if self.worker_folder is not None:
                resources.callback(leave, self.worker_folder)
            resources.callback(self.retry_counts.close)
            lag = measure_lag(partial(self.metrics.observe, EVENT_LOOP_LAG, ()))
            await resources.enter_async_context(running(lag))
            await resources.enter_async_context(self.tracing.running())
            await resources.enter_async_context(self.billing.running())
            await resources.enter_async_context(aclosing(self.upstream.client))
            await resources.enter_async_context(aclosing(self.canary))
            if self.guardrails is not None:
                await resources.enter_async_context(aclosing(self.guardrails))
            await resources.enter_async_context(self.control.connect())
            await resources.enter_async_context(self.keys.running())
            await resources.enter_async_context(self.limits.running())
            await resources.enter_async_context(self._serving_engines())
            yield

    @asynccontextmanager
    async def _serving_engines(self) -> AsyncIterator[None]:
        upstream, admission = self.upstream, self.admission
        async with AsyncExitStack() as resources:
            await resources.enter_async_context(running(upstream.pool.run()))
            await resources.enter_async_context(running(upstream.engine_metrics.run()))
            if admission is not None:
                await resources.enter_async_context(running(admission.run()))
            with suppress(TimeoutError):
                async with asyncio.timeout(upstream.dns_interval):
                    await upstream.replicas.look_up()
            names = upstream.replicas.run(upstream.dns_interval)
            await resources.enter_async_context(running(names))
            await resources.enter_async_context(running(upstream.monitor.run()))
            await upstream.monitor.wait_for_start()
            if admission is not None:
                await admission.update()  # of the models that are known now
            yield


async def _flush_log() -> None:
    if (writer := find_log_writer()) is not None:
        await asyncio.to_thread(writer.flush)
