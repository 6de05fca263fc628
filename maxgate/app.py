"""The composition root: builds every object once and hands it to those that use it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    aclosing,
    asynccontextmanager,
    nullcontext,
    suppress,
)
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from starlette.types import Lifespan

from maxgate.api.admin.routes import router as admin_router
from maxgate.api.admin.running_models import router as running_models_router
from maxgate.api.admin.schemas import EngineControl, ModelControl
from maxgate.api.app import Gateway
from maxgate.api.chat.routes import chat_route
from maxgate.api.chat.service import ChatService
from maxgate.api.completions.routes import completion_route
from maxgate.api.completions.service import CompletionService
from maxgate.api.embeddings.routes import embedding_route
from maxgate.api.embeddings.service import EmbeddingService
from maxgate.api.event_stream import EventStreams
from maxgate.api.health import router as health_router
from maxgate.api.metrics import router as metrics_router
from maxgate.api.models.routes import router as models_router
from maxgate.api.request_body import BodyReader
from maxgate.clock import Clock, SystemClock
from maxgate.control_plane.model_starts import WorkerModelStarts
from maxgate.control_plane.replicas import ReplicaEngines
from maxgate.control_plane.single_process import (
    NoModelControl,
    ReadOnlyControl,
    build_single_process_control,
    is_only_process,
)
from maxgate.control_plane.worker import ParentClient, WorkerModels
from maxgate.generation.backend import Backend, Embedder
from maxgate.model_cards.card import ModelCard
from maxgate.model_cards.loader import ModelFiles, load_cards
from maxgate.model_swap.start_queue import StartQueue
from maxgate.pipeline import build_embedding_pipeline, build_pipeline, embedding_layers, layers
from maxgate.prompts.registry import EmbeddingFormats, PromptFormats
from maxgate.settings import Settings, load_settings
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
from maxgate.upstream.client import EngineClient, HttpxEngineClient
from maxgate.upstream.embedder import UpstreamEmbedder
from maxgate.upstream.engine_metrics import EngineMetricsMonitor, default_metrics_url
from maxgate.upstream.health import HealthMonitor
from maxgate.upstream.http1.transport import EngineTransport
from maxgate.upstream.pool import ReplicaPool
from maxgate.upstream.replica import Replica
from maxgate.upstream.replica_set import ReplicaSet
from maxgate.upstream.retry_budget import WORDS
from maxgate.upstream.routing.selection import build_policy

# Models beyond this number may share the retry budget of another one.
_RETRY_ROWS: Final = 64


_ROUTERS: Final = (
    models_router,
    admin_router,
    running_models_router,
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
) -> Gateway:
    """Build the gateway as a FastAPI application.

    `transport` replaces the engines and `clock` the time, in tests. `worker_folder` is for counters
    that are shared with other workers until the shutdown. `on_startup` runs on the event loop
    before anything else does. `control_path` is the socket of the parent process, if there is one.

    Raises ConfigurationError for model cards that cannot be read.
    """
    clock = clock or SystemClock()
    cards = load_cards(settings.cards, settings.cache_dir)
    formats = build_formats(settings, cards)
    shared_folder = settings.telemetry.metrics_dir or worker_folder
    metrics = MetricsStore(clock, shared_folder)
    retry_counts = SharedCounts(shared_folder, rows=_RETRY_ROWS, words=WORDS)
    upstream = build_upstream(settings, cards, formats, transport, retry_counts)
    starts = StartQueue(settings.swap, clock)
    models = build_models(cards, formats, upstream, starts)
    control = build_control(settings, upstream, models, control_path)

    server = settings.server
    app = Gateway(
        sinks=[metrics, RequestLog()],
        clock=clock,
        lifespan=build_lifespan(upstream, control.connect, retry_counts, on_startup, worker_folder),
        allowed_hosts=server.allowed_hosts,
        cors_origins=server.cors_origins,
        session_header=settings.routing.session_header,
    )
    _provide(app, upstream, control)
    app.state.metrics = MetricsReader(metrics)
    _count_events(metrics, upstream)

    bodies = BodyReader(max_bytes=server.max_body_bytes, timeout=server.request_read_timeout)
    app.state.bodies = bodies
    streams = EventStreams(clock, server.keep_alive_interval)
    backend = build_backend(clock, formats, upstream)
    embedder = build_embedder(settings, formats, upstream)
    catalog = upstream.catalog
    chat = ChatService(backend, catalog, clock)
    completions = CompletionService(backend, catalog, clock)
    app.add_hot_route(chat_route(chat, bodies, streams, starts))
    app.add_hot_route(completion_route(completions, bodies, streams, starts))
    app.add_hot_route(embedding_route(EmbeddingService(embedder, catalog), bodies, starts))
    for router in _ROUTERS:
        app.include_router(router)
    return app


def _provide(app: Gateway, upstream: "Upstream", control: "Control") -> None:
    """Give the ordinary routes what they depend on."""
    app.state.catalog = upstream.catalog
    app.state.engines = upstream.replicas.replicas
    app.state.replica_set = upstream.replicas
    app.state.engine_control = control.engines
    app.state.model_control = control.models


def _count_events(metrics: MetricsStore, upstream: "Upstream") -> None:
    upstream.engine_metrics.on_own(
        lambda url, change: metrics.add(ENGINE_REQUESTS_OWN, (url,), change)
    )
    if isinstance(upstream.client, EngineTransport):
        upstream.client.on_cancelled(partial(metrics.observe, CANCEL_DURATION, ()))
    upstream.monitor.on_failure(lambda url: metrics.add(ENGINE_WATCH_FAILURES, (url,)))
    if (writer := find_log_writer()) is not None:
        writer.on_drop(lambda lines: metrics.add(LOG_LINES_DROPPED, (), lines))


@dataclass(frozen=True)
class Formats:
    """How prompts and embedding inputs become token ids, per model."""

    prompts: PromptFormats
    embeddings: EmbeddingFormats

    def has(self, card: ModelCard) -> bool:
        """Whether the gateway can encode prompts or inputs of the card's model."""
        return (self.embeddings if card.task == "embeddings" else self.prompts).has(card)

    async def prepare(self, names: Collection[str]) -> None:
        """Load what the models of an engine need, before it serves them."""
        await self.embeddings.prepare(names)
        await self.prompts.prepare(self.embeddings.others(names))


@dataclass(frozen=True)
class Upstream:
    """Everything that talks to engines."""

    replicas: ReplicaSet
    pool: ReplicaPool
    catalog: LiveCatalog
    monitor: HealthMonitor
    client: EngineClient
    engine_metrics: EngineMetricsMonitor
    dns_interval: float


def build_formats(settings: Settings, cards: list[ModelCard]) -> Formats:
    """Build the prompt formats; tokenizers are loaded when an engine first lists their model."""
    files = ModelFiles.locate(settings.cache_dir)
    return Formats(
        PromptFormats(cards, files, require_tokenizer=settings.require_tokenizer),
        EmbeddingFormats(cards, files),
    )


def build_upstream(
    settings: Settings,
    cards: list[ModelCard],
    formats: Formats,
    transport: httpx.AsyncBaseTransport | None,
    retry_counts: SharedCounts,
) -> Upstream:
    """Build everything that talks to engines."""
    client: EngineClient = (
        HttpxEngineClient(transport)
        if transport
        else EngineTransport(settings.upstream, settings.engines)
    )
    replica_set = ReplicaSet(settings.engines)
    replicas = replica_set.replicas
    catalog = LiveCatalog(
        cards, replicas, formats.has, require_tokenizer=settings.require_tokenizer
    )
    monitor = HealthMonitor(
        replicas,
        client,
        settings.upstream,
        formats.prepare,
        catalog.refresh,
        [card.served_model_name for card in cards if card.task == "embeddings"],
        starts_engines=settings.engine.mode != "none",
    )
    pool = ReplicaPool(
        replicas,
        client,
        settings.upstream,
        settings.failover,
        build_policy(settings.routing),
        retry_counts.open_row,
    )
    engine_metrics = EngineMetricsMonitor(
        replicas,
        client,
        settings.upstream.metrics_interval,
        partial(_find_metrics_url, settings),
        settings.routing.kv_pressure_factor,
    )

    def update(removed: Collection[Replica]) -> None:
        if isinstance(client, EngineTransport):
            client.trust(replica_set.engines)
        for replica in removed:
            pool.forget(replica)
        monitor.replicas_changed()
        catalog.refresh()

    replica_set.on_change(update)
    return Upstream(
        replica_set,
        pool,
        catalog,
        monitor,
        client,
        engine_metrics,
        settings.upstream.dns_interval,
    )


def _find_metrics_url(settings: Settings, url: str) -> str | None:
    """Return the URL of the metrics of the engine at `url`, if the gateway has started it."""
    is_local = urlsplit(url).hostname in {"localhost", "127.0.0.1"}
    if settings.engine.mode == "none" or not is_local:
        return None
    return default_metrics_url(url, settings.engine.metrics_port)


def build_models(
    cards: list[ModelCard], formats: Formats, upstream: Upstream, starts: StartQueue
) -> WorkerModelStarts:
    """Build what holds the requests for models that the parent process starts and stops."""
    replicas = upstream.replicas.replicas
    return WorkerModelStarts(cards, upstream.catalog, replicas, starts, formats.prepare)


@dataclass(frozen=True)
class Control:
    """The control of the engines and models; `connect` to the parent process while serving."""

    engines: EngineControl
    models: ModelControl
    connect: Callable[[], AbstractAsyncContextManager[None]]


def build_control(
    settings: Settings, upstream: Upstream, models: WorkerModels, path: Path | None
) -> Control:
    """Build the control of the engines and models."""
    engines = ReplicaEngines(upstream.replicas)
    if path is not None:
        client = ParentClient(path, engines, models)
        return Control(client, client, client.running)
    if is_only_process():
        single = build_single_process_control(engines, settings, load_settings)
        return Control(single, NoModelControl(), nullcontext)
    return Control(ReadOnlyControl(engines), NoModelControl(), nullcontext)


def build_backend(
    clock: Clock,
    formats: Formats,
    upstream: Upstream,
) -> Backend:
    """Build the pipeline of chat and text completions."""
    around = layers(clock=clock, formats=formats.prompts.by_engine_name)
    return build_pipeline(around, UpstreamBackend(upstream.pool))


def build_embedder(settings: Settings, formats: Formats, upstream: Upstream) -> Embedder:
    """Build the pipeline of embeddings."""
    around = embedding_layers(find_format=formats.embeddings.find, upstream=settings.upstream)
    return build_embedding_pipeline(around, UpstreamEmbedder(upstream.pool))


def build_lifespan(
    upstream: Upstream,
    connect: Callable[[], AbstractAsyncContextManager[None]],
    retry_counts: SharedCounts,
    on_startup: Callable[[], None] | None,
    worker_folder: Path | None,
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
            await resources.enter_async_context(aclosing(upstream.client))
            await resources.enter_async_context(connect())
            await resources.enter_async_context(_running(upstream.pool.run()))
            await resources.enter_async_context(_running(upstream.engine_metrics.run()))
            with suppress(TimeoutError):
                async with asyncio.timeout(upstream.dns_interval):
                    await upstream.replicas.look_up()
            names = upstream.replicas.run(upstream.dns_interval)
            await resources.enter_async_context(_running(names))
            await resources.enter_async_context(_running(upstream.monitor.run()))
            await upstream.monitor.wait_for_start()
            yield

    return lifespan


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
