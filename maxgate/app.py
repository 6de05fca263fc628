"""The application: what it is made of, its routes and its lifespan."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    aclosing,
    asynccontextmanager,
    nullcontext,
    suppress,
)
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
from starlette.types import Lifespan

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
from maxgate.billing import Billing, build_billing
from maxgate.canary.worker import WorkerCanary
from maxgate.clock import Clock, SystemClock
from maxgate.composition import (
    Control,
    Keys,
    Upstream,
    build_admission,
    build_backend,
    build_canary_control,
    build_control,
    build_embedder,
    build_formats,
    build_guardrails,
    build_keys,
    build_limits,
    build_models,
    build_moderator,
    build_organization,
    build_upstream,
    build_usage_ledger,
    connect_canary,
)
from maxgate.generation.backend import Backend, Embedder
from maxgate.generation.context import RequestContext
from maxgate.generation.moderation import Moderator
from maxgate.limits.limits import Limits
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
    LOG_LINES_DROPPED,
)
from maxgate.telemetry.shared_counts import SharedCounts
from maxgate.telemetry.worker_folder import leave
from maxgate.upstream.backend import UpstreamBackend
from maxgate.upstream.catalog import LiveCatalog
from maxgate.upstream.http1.transport import EngineTransport
from maxgate.upstream.retry_budget import WORDS

if TYPE_CHECKING:
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
) -> Gateway:
    """Build the gateway as a FastAPI application.

    `transport` replaces the engines and `clock` the time, in tests. `worker_folder` is for counters
    that are shared with other workers until the shutdown. `on_startup` runs on the event loop
    before anything else does. `control_path` is the socket of the parent process, if there is one.
    `usage_store` replaces the database of usage, in tests.

    Raises ConfigurationError for model cards and keys that cannot be read.
    """
    clock = clock or SystemClock()
    cards = load_cards(settings.cards, settings.cache_dir)
    formats = build_formats(settings, cards)
    shared_folder = settings.telemetry.metrics_dir or worker_folder
    metrics = MetricsStore(clock, shared_folder)
    billing = build_billing(settings, cards, clock, metrics, usage_store)
    retry_counts = SharedCounts(shared_folder, rows=_RETRY_ROWS, words=WORDS)
    upstream = build_upstream(settings, cards, formats, transport, retry_counts)
    held = HeldRequests(settings.admission, {card.name: card.served_model_name for card in cards})
    admission = build_admission(settings, cards, upstream.pool, metrics, shared_folder, held)
    limits = build_limits(settings, clock, metrics, shared_folder)
    guard = admission if limits is None else limits.guard(admission)
    upstream_backend = UpstreamBackend(upstream.pool, guard)
    canary = WorkerCanary(
        upstream_backend,
        upstream.pool,
        partial(connect_canary, settings, transport),
        None if limits is None else limits.guard(None),
    )
    starts = StartQueue(settings.swap, clock, held)
    running = set[RequestContext]()
    models = build_models(cards, formats, upstream, starts, running)
    keys = build_keys(settings, clock, metrics)
    moderator = build_moderator(clock, formats, upstream_backend)
    guardrails = build_guardrails(settings, cards, upstream.catalog, metrics, moderator)
    control = build_control(settings, upstream, models, control_path, canary, keys.refresh)

    ledger = build_usage_ledger(settings, cards, clock, metrics)

    server = settings.server
    app = Gateway(
        sinks=[metrics, RequestLog(), *billing.sinks],
        clock=clock,
        lifespan=build_lifespan(
            upstream,
            admission,
            control.connect,
            canary,
            retry_counts,
            on_startup,
            worker_folder,
            keys,
            guardrails=guardrails,
            running_ledger=nullcontext if ledger is None else ledger.running,
            billing=billing,
            limits=limits,
        ),
        allowed_hosts=server.allowed_hosts,
        cors_origins=server.cors_origins,
        format_price=billing.format_price,
        session_header=settings.routing.session_header,
        running=running,
        authentication=keys.authentication,
        limits=None if limits is None else limits.edge,
        proxies=TrustedProxies(server.trusted_proxies),
        serves_everyone=settings.auth.mode is not None,
        admin_port=settings.admin.port,
        ledger=ledger,
    )
    provide(app, upstream, control, admission, billing)
    app.state.canary_control = build_canary_control(control.engines, canary)
    app.state.organization = build_organization(settings, keys, clock)
    app.state.metrics = MetricsReader(metrics)
    _count_events(metrics, upstream)

    backend = build_backend(clock, formats, upstream_backend, guardrails, limits)
    embedder = build_embedder(settings, formats, upstream, guard, guardrails)
    add_routes(app, settings, clock, upstream.catalog, backend, embedder, moderator, starts)
    return app


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
    streams = EventStreams(clock, server.keep_alive_interval)
    chat = ChatService(backend, catalog, clock)
    completions = CompletionService(backend, catalog, clock)
    app.add_hot_route(chat_route(chat, bodies, streams, starts))
    app.add_hot_route(completion_route(completions, bodies, streams, starts))
    app.add_hot_route(embedding_route(EmbeddingService(embedder, catalog), bodies, starts))
    app.add_hot_route(moderation_route(ModerationService(moderator, catalog), bodies, starts))
    for router in _ROUTERS:
        app.include_router(router)


def provide(
    app: Gateway,
    upstream: Upstream,
    control: Control,
    admission: AdmissionController | None,
    billing: Billing,
) -> None:
    """Give the ordinary routes and the server what they depend on."""
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


def build_lifespan(
    upstream: Upstream,
    admission: AdmissionController | None,
    connect: Callable[[], AbstractAsyncContextManager[None]],
    canary: WorkerCanary,
    retry_counts: SharedCounts,
    on_startup: Callable[[], None] | None,
    worker_folder: Path | None,
    keys: Keys,
    *,
    guardrails: "Guardrails | None",
    running_ledger: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
    billing: Billing,
    limits: Limits | None,
) -> Lifespan[Gateway]:
    """Build the lifespan: opens every resource in order and closes them in reverse."""

    @asynccontextmanager
    async def lifespan(_: Gateway) -> AsyncIterator[None]:
        if on_startup is not None:
            on_startup()
        async with AsyncExitStack() as resources:
            # Plain uvicorn ends its process by a signal, so that no exit handler runs.
            resources.push_async_callback(_flush_log)
            if worker_folder is not None:
                resources.callback(leave, worker_folder)
            resources.callback(retry_counts.close)
            await resources.enter_async_context(running_ledger())
            await resources.enter_async_context(aclosing(upstream.client))
            await resources.enter_async_context(aclosing(canary))
            if guardrails is not None:
                await resources.enter_async_context(aclosing(guardrails))
            await resources.enter_async_context(connect())
            await resources.enter_async_context(aclosing(billing))
            await resources.enter_async_context(_serving_keys(keys))
            await resources.enter_async_context(_running(upstream.pool.run()))
            await resources.enter_async_context(_running(upstream.engine_metrics.run()))
            if limits is not None:
                await limits.counters.join()
                await resources.enter_async_context(_running(limits.counters.run()))
            if admission is not None:
                await resources.enter_async_context(_running(admission.run()))
            with suppress(TimeoutError):
                async with asyncio.timeout(upstream.dns_interval):
                    await upstream.replicas.look_up()
            names = upstream.replicas.run(upstream.dns_interval)
            await resources.enter_async_context(_running(names))
            await resources.enter_async_context(_running(upstream.monitor.run()))
            await upstream.monitor.wait_for_start()
            if admission is not None:
                await admission.update()  # of the models that are known now
            yield

    return lifespan


@asynccontextmanager
async def _serving_keys(keys: Keys) -> AsyncIterator[None]:
    async with AsyncExitStack() as resources:
        if keys.sources is not None:
            await resources.enter_async_context(aclosing(keys.sources))
            await resources.enter_async_context(_running(keys.sources.run()))
        if keys.tokens is not None:
            await resources.enter_async_context(aclosing(keys.tokens))
            keys.tokens.start()
        yield


async def _flush_log() -> None:
    if (writer := find_log_writer()) is not None:
        await asyncio.to_thread(writer.flush)


@asynccontextmanager
async def _running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
