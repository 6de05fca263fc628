"""The composition root: builds every object once and hands it to those that use it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from starlette.types import Lifespan

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
from maxgate.generation.backend import Backend, Embedder
from maxgate.model_cards.card import ModelCard
from maxgate.model_cards.loader import ModelFiles, load_cards
from maxgate.pipeline import build_embedding_pipeline, build_pipeline, embedding_layers, layers
from maxgate.prompts.registry import EmbeddingFormats, PromptFormats
from maxgate.settings import Settings
from maxgate.telemetry.logging import RequestLog, find_log_writer
from maxgate.telemetry.metrics_store import MetricsStore
from maxgate.telemetry.prometheus import MetricsReader
from maxgate.telemetry.registry import ENGINE_WATCH_FAILURES, LOG_LINES_DROPPED
from maxgate.telemetry.worker_folder import leave
from maxgate.upstream.backend import UpstreamBackend
from maxgate.upstream.catalog import LiveCatalog
from maxgate.upstream.client import EngineClient, HttpxEngineClient
from maxgate.upstream.embedder import UpstreamEmbedder
from maxgate.upstream.health import HealthMonitor
from maxgate.upstream.http1.transport import EngineTransport
from maxgate.upstream.pool import ReplicaPool
from maxgate.upstream.replica import Replica


def create_app(
    settings: Settings,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    clock: Clock | None = None,
    worker_folder: Path | None = None,
    on_startup: Callable[[], None] | None = None,
) -> Gateway:
    """Build the gateway as a FastAPI application.

    `transport` replaces the engines and `clock` the time, in tests. `worker_folder` is for counters
    that are shared with other workers until the shutdown. `on_startup` runs on the event loop
    before anything else does.

    Raises ConfigurationError for model cards that cannot be read.
    """
    clock = clock or SystemClock()
    cards = load_cards(settings.cards, settings.cache_dir)
    formats = build_formats(settings, cards)
    upstream = build_upstream(settings, cards, formats, transport)
    metrics = MetricsStore(clock, settings.telemetry.metrics_dir or worker_folder)

    server = settings.server
    app = Gateway(
        sinks=[metrics, RequestLog()],
        clock=clock,
        lifespan=build_lifespan(upstream, on_startup, worker_folder),
        allowed_hosts=server.allowed_hosts,
        cors_origins=server.cors_origins,
    )
    app.state.catalog = upstream.catalog
    app.state.engines = upstream.replicas
    app.state.metrics = MetricsReader(metrics)
    upstream.monitor.on_failure(lambda url: metrics.add(ENGINE_WATCH_FAILURES, (url,)))
    if (writer := find_log_writer()) is not None:
        writer.on_drop(lambda lines: metrics.add(LOG_LINES_DROPPED, (), lines))

    bodies = BodyReader(max_bytes=server.max_body_bytes, timeout=server.request_read_timeout)
    streams = EventStreams(clock, server.keep_alive_interval)
    backend = build_backend(clock, formats, upstream)
    embedder = build_embedder(settings, formats, upstream)
    catalog = upstream.catalog
    app.add_hot_route(chat_route(ChatService(backend, catalog, clock), bodies, streams))
    app.add_hot_route(completion_route(CompletionService(backend, catalog, clock), bodies, streams))
    app.add_hot_route(embedding_route(EmbeddingService(embedder, catalog), bodies))
    app.include_router(models_router)
    app.include_router(health_router)
    app.include_router(metrics_router)
    return app


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

    replicas: list[Replica]
    pool: ReplicaPool
    catalog: LiveCatalog
    monitor: HealthMonitor
    client: EngineClient


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
) -> Upstream:
    """Build everything that talks to engines."""
    client: EngineClient = (
        HttpxEngineClient(transport)
        if transport
        else EngineTransport(settings.upstream, settings.engines)
    )
    replicas = [Replica(engine.url) for engine in settings.engines]
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
    pool = ReplicaPool(replicas, client, settings.upstream, settings.failover)
    return Upstream(replicas, pool, catalog, monitor, client)


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
    upstream: Upstream, on_startup: Callable[[], None] | None, worker_folder: Path | None
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
            await resources.enter_async_context(aclosing(upstream.client))
            await resources.enter_async_context(_running(upstream.pool.run()))
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
