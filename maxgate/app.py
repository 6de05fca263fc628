"""The composition root: every object is built here, once, and handed to those who need it."""

import asyncio
import sys
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from functools import partial

import httpx

from maxgate.api.chat.routes import chat_routes
from maxgate.api.chat.service import ChatService
from maxgate.api.completions.routes import completion_routes
from maxgate.api.completions.service import CompletionService
from maxgate.api.embeddings.routes import embedding_routes
from maxgate.api.embeddings.service import EmbeddingService
from maxgate.api.event_stream import EventStreams
from maxgate.api.health import EngineHealth, health_routes
from maxgate.api.metrics import metrics_routes
from maxgate.api.middleware import HttpApp, Lifespan
from maxgate.api.models.routes import model_routes
from maxgate.api.request_body import BodyReader
from maxgate.clock import Clock, SystemClock
from maxgate.model_cards.loader import ModelFiles, load_cards
from maxgate.pipeline import (
    build_embedding_pipeline,
    build_pipeline,
    embedding_layers,
    layers,
)
from maxgate.prompts.registry import EmbeddingFormats, PromptFormats
from maxgate.settings import Settings
from maxgate.telemetry.layer import Recorder
from maxgate.telemetry.logging import RequestLog
from maxgate.telemetry.metrics_store import MetricsStore
from maxgate.upstream.backend import UpstreamBackend
from maxgate.upstream.catalog import LiveCatalog
from maxgate.upstream.embedder import UpstreamEmbedder
from maxgate.upstream.health import BeforeServing, HealthMonitor, probe_client
from maxgate.upstream.http1.transport import EngineTransport
from maxgate.upstream.pool import ReplicaPool
from maxgate.upstream.replica import Replica


def create_app(
    settings: Settings,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    clock: Clock | None = None,
) -> HttpApp:
    """The gateway as an ASGI application.

    `transport` stands in for the engines and `clock` for time in tests.

    Raises ConfigurationError for cards that cannot be read.
    """
    clock = clock or SystemClock()
    cards = load_cards(settings.cards)
    replicas = [Replica(url) for url in settings.engine_urls]
    transport = transport or EngineTransport(settings.upstream)
    files = ModelFiles.of(settings.data_dir)
    formats, embedding_formats = PromptFormats(cards, files), EmbeddingFormats(cards, files)
    catalog = LiveCatalog(cards, replicas, formats.has)
    calls = ReplicaPool(replicas, transport, settings.upstream)
    around = layers(clock=clock, formats=formats.by_engine_name)
    backend = build_pipeline(around, UpstreamBackend(calls))
    around_embeddings = embedding_layers(
        find_format=embedding_formats.find, upstream=settings.upstream
    )
    embedder = build_embedding_pipeline(around_embeddings, UpstreamEmbedder(calls))
    bodies = BodyReader(max_bytes=settings.max_body_bytes, timeout=settings.body_timeout)
    streams = EventStreams(clock, settings.keep_alive_interval)
    engines = partial(_health, replicas)
    store = MetricsStore(clock, settings.metrics_dir)
    client = probe_client(transport, settings.upstream.probe_timeout)
    monitor = HealthMonitor(
        replicas,
        client,
        settings.upstream,
        _preparation(formats, embedding_formats),
        catalog.refresh,
        [card.served_model_name for card in cards if card.task == "embeddings"],
    )
    routes = [
        *chat_routes(ChatService(backend, catalog, clock), bodies, streams),
        *completion_routes(CompletionService(backend, catalog, clock), bodies, streams),
        *embedding_routes(EmbeddingService(embedder, catalog), bodies),
        *model_routes(catalog),
        *health_routes(engines, catalog),
        *metrics_routes(store, engines),
    ]
    recorder = Recorder([store, RequestLog()])
    lifespan = _lifespan(client, monitor)
    return HttpApp(routes, recorder=recorder, clock=clock, lifespan=lifespan)


def _preparation(prompts: PromptFormats, embeddings: EmbeddingFormats) -> BeforeServing:
    async def prepare(names: Collection[str]) -> None:
        await embeddings.prepare(names)
        await prompts.prepare(embeddings.others(names))

    return prepare


def _health(replicas: Sequence[Replica]) -> Sequence[EngineHealth]:
    return [
        EngineHealth(
            url=r.url,
            state=r.state,
            models=sorted(r.models),
            in_flight=r.in_flight,
            error=r.error,
            capabilities=dict(r.capabilities),
            abilities=dict(r.capabilities),
        )
        for r in replicas
    ]


def _lifespan(client: httpx.AsyncClient, monitor: HealthMonitor) -> Lifespan:
    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        # asyncio notes every generator, to close at its end those that were left open. Here each is
        # closed by whoever opened it, and the notes cost more than the generators.
        sys.set_asyncgen_hooks(firstiter=None)
        # Every engine was looked at before the first request comes.
        async with client:
            await monitor.probe_all()
            watching = asyncio.create_task(monitor.run())
            try:
                yield
            finally:
                watching.cancel()
                await asyncio.wait([watching])

    return lifespan
