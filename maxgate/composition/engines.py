"""Builds what talks to engines, and what decides which requests they get."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from maxgate.admission.capacity import EngineLoad
from maxgate.admission.controller import AdmissionController
from maxgate.admission.file_ledger import FileLedger
from maxgate.admission.held import HeldRequests
from maxgate.admission.ledger import SlotLedger
from maxgate.api.admin.canary import CanaryControl
from maxgate.api.admin.schemas import EngineControl, ModelControl
from maxgate.canary.worker import WorkerCanary
from maxgate.control_plane.canary import UnsupportedCanary, build_single_process_canary
from maxgate.control_plane.model_starts import WorkerModelStarts
from maxgate.control_plane.replicas import ReplicaEngines
from maxgate.control_plane.single_process import (
    NoModelControl,
    ReadOnlyControl,
    build_single_process_control,
    is_only_process,
)
from maxgate.control_plane.worker import ParentClient, WorkerModels
from maxgate.generation.context import RequestContext
from maxgate.generation.guard import Guard
from maxgate.installation import requires_extra
from maxgate.model_cards.card import ModelCard
from maxgate.model_cards.loader import ModelFiles
from maxgate.model_swap.start_queue import StartQueue
from maxgate.prompts.registry import EmbeddingFormats, PromptFormats
from maxgate.settings import Settings, load_settings
from maxgate.telemetry.metrics_store import MetricsStore
from maxgate.telemetry.shared_counts import SharedCounts
from maxgate.upstream.backend import UpstreamBackend
from maxgate.upstream.catalog import LiveCatalog
from maxgate.upstream.client import EngineClient, HttpxEngineClient
from maxgate.upstream.engine_metrics import EngineMetricsMonitor, default_metrics_url
from maxgate.upstream.health import HealthMonitor
from maxgate.upstream.http1.transport import EngineTransport
from maxgate.upstream.pool import ReplicaPool
from maxgate.upstream.replica import Replica
from maxgate.upstream.replica_set import ReplicaSet
from maxgate.upstream.routing.selection import build_policy
from maxgate.upstream.settings import ReplicaSettings


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
        cards,
        replicas,
        formats.has,
        require_tokenizer=settings.require_tokenizer,
        waits_for_engines=settings.swap.scale_up_time is not None,
    )
    catalog.refresh()  # models that wait for engines are known before the first one is found
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
        discovers=settings.upstream.discover_metrics,
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


def build_admission(
    settings: Settings,
    cards: Sequence[ModelCard],
    pool: ReplicaPool,
    metrics: MetricsStore,
    folder: Path | None,
    held: HeldRequests,
) -> AdmissionController | None:
    """Build the admission to the engines, None if it is turned off.

    `folder` is that of the counters of all workers, and `held` the requests whose models are not
    running.
    """
    if not settings.admission.enabled:
        return None
    per_engine: dict[str, int | None] = {}
    if settings.engine.mode != "none":  # MAX is started as the cards say
        per_engine = {card.served_model_name: card.max.max_batch_size for card in cards if card.max}

    def read_load(model: str) -> EngineLoad:
        return EngineLoad(*pool.measure_load(model))

    def find_slots(model: str) -> int | None:
        return pool.count_slots(model, settings.admission.slots or per_engine.get(model))

    ledger = build_ledger(settings, folder)
    return AdmissionController(
        settings.admission,
        read_load,
        find_slots,
        metrics,
        ledger,
        held=held,
        list_models=pool.list_models,
    )


def build_ledger(settings: Settings, folder: Path | None) -> SlotLedger | None:
    """Build the ledger that shares slots among workers or gateways, None if there is one worker.

    Raises ConfigurationError if a package is missing.
    """
    if settings.redis.url is None:
        return None if folder is None else FileLedger(folder / "admission")
    with requires_extra("redis.url", "redis"):
        from maxgate.admission.redis_ledger import RedisLedger  # noqa: PLC0415  # an extra
        from maxgate.stores.redis import RedisStore  # noqa: PLC0415
    return RedisLedger(RedisStore(settings.redis))


def build_models(
    cards: list[ModelCard],
    formats: Formats,
    upstream: Upstream,
    starts: StartQueue,
    running: Collection[RequestContext],
) -> WorkerModelStarts:
    """Build what holds the requests for models that the parent process starts and stops."""
    replicas = upstream.replicas.replicas
    return WorkerModelStarts(cards, upstream.catalog, replicas, starts, running, formats.prepare)


@dataclass(frozen=True)
class Control:
    """The control of the engines and models; `connect` to the parent process while serving."""

    engines: EngineControl
    models: ModelControl
    connect: Callable[[], AbstractAsyncContextManager[None]]


def build_control(
    settings: Settings,
    upstream: Upstream,
    models: WorkerModels,
    path: Path | None,
    canary: WorkerCanary,
    refresh_keys: Callable[[], Awaitable[None]],
) -> Control:
    """Build the control of the engines and models; it refreshes keys with each reload."""
    engines = ReplicaEngines(upstream.replicas)
    if path is not None:
        client = ParentClient(path, engines, models, canary, refresh_keys)
        return Control(client, client, client.running)
    if is_only_process():
        single = build_single_process_control(engines, settings, load_settings, refresh_keys)
        return Control(single, NoModelControl(), nullcontext)
    return Control(ReadOnlyControl(engines), NoModelControl(), nullcontext)


def build_canary_control(control: EngineControl, canary: WorkerCanary) -> CanaryControl:
    """Build the control of the canary, which reaches the same workers as that of the engines."""
    if isinstance(control, ParentClient):
        return control
    if isinstance(control, ReadOnlyControl):
        return UnsupportedCanary()
    return build_single_process_canary(canary)


def build_canary(
    settings: Settings,
    upstream: Upstream,
    backend: UpstreamBackend,
    transport: httpx.AsyncBaseTransport | None,
    guard: Guard | None,
) -> WorkerCanary:
    """Build what mirrors requests to a new engine; `guard` admits those that it serves."""

    def connect(engine: ReplicaSettings) -> EngineClient:
        if transport is not None:
            return HttpxEngineClient(transport)
        return EngineTransport(settings.upstream, [engine])

    return WorkerCanary(backend, upstream.pool, connect, guard)
