"""Builds what the application is made of, each object once."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
from typing_extensions import override

from maxgate.admission.capacity import EngineLoad
from maxgate.admission.controller import AdmissionController
from maxgate.admission.file_ledger import FileLedger
from maxgate.admission.held import HeldRequests
from maxgate.admission.ledger import SlotLedger
from maxgate.api.admin.canary import CanaryControl
from maxgate.api.admin.schemas import EngineControl, ModelControl
from maxgate.api.authentication import Authentication
from maxgate.api.organization.dependencies import NoOrganization
from maxgate.api.proxies import TrustedProxies
from maxgate.auth.addresses import FailureLimit
from maxgate.auth.api_key import is_well_formed
from maxgate.auth.identity import TokenKeys, Verifier
from maxgate.auth.key_changes import KeyChangePublisher, KeyChanges, NoKeyChanges
from maxgate.auth.key_sources import KeySources
from maxgate.auth.key_verifier import KeyVerifier
from maxgate.auth.organization.changes import Organization
from maxgate.auth.token_projects import ProjectVerifier, TokenProjects
from maxgate.canary.worker import WorkerCanary
from maxgate.clock import Clock
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
from maxgate.generation.backend import Backend, Embedder
from maxgate.generation.context import RequestContext
from maxgate.generation.guard import Guard
from maxgate.generation.moderation import Moderator
from maxgate.guardrails.llama_guard import LlamaGuard
from maxgate.installation import requires_extra
from maxgate.limits.alerts import WebhookAlerts
from maxgate.limits.exchanges import CountUsed
from maxgate.limits.file_table import FileTable
from maxgate.limits.limit import Limit, LimitSource
from maxgate.limits.limits import Limits
from maxgate.limits.memory_table import MemoryTable
from maxgate.limits.planner import Price
from maxgate.limits.stored_limits import StoredLimits
from maxgate.limits.table import CounterTable
from maxgate.model_cards.card import ModelCard
from maxgate.model_cards.loader import ModelFiles
from maxgate.model_swap.start_queue import StartQueue
from maxgate.pipeline import build_embedding_pipeline, build_pipeline, embedding_layers, layers
from maxgate.prompts.registry import EmbeddingFormats, PromptFormats
from maxgate.settings import Settings, load_settings
from maxgate.stores.identity import IdentityStore
from maxgate.stores.usage import UsageStore
from maxgate.telemetry.metrics_store import MetricsStore
from maxgate.telemetry.registry import (
    AUTHENTICATION_RESULT,
    AUTHENTICATIONS,
    GUARDRAIL_DECISIONS,
    LIMIT_REFUSALS,
    LIMITS_DEGRADED,
    USAGE_LINES,
    USAGE_LINES_LOST,
    USAGE_LINES_MOVED,
    USAGE_SPOOL_SIZE,
)
from maxgate.telemetry.shared_counts import SharedCounts
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
from maxgate.upstream.routing.selection import build_policy
from maxgate.upstream.settings import ReplicaSettings

if TYPE_CHECKING:
    from maxgate.guardrails.assembly import Guardrails
    from maxgate.usage.ledger import SpooledLedger


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


@dataclass(frozen=True)
class Keys:
    """The authentication of clients, their keys, and the database; None where there is none."""

    authentication: Authentication | None = None
    sources: KeySources | None = None
    identities: IdentityStore | None = None
    tokens: TokenKeys | None = None

    async def refresh(self) -> None:
        """Read the keys again."""
        if self.sources is not None:
            await self.sources.refresh()


def build_keys(settings: Settings, clock: Clock, metrics: MetricsStore) -> Keys:
    """Build the authentication; raises ConfigurationError for keys that cannot be read."""
    auth = settings.auth
    if not (auth.has_keys or auth.has_jwt):
        return Keys()
    verifiers: list[Verifier] = []
    identities, sources, tokens, projects = None, None, None, None
    if auth.has_keys:
        identities = open_identities(settings, clock)
        changes = None if identities is None else build_key_changes(settings)
        if identities is not None and settings.jwt.project_claim is not None:
            requires_known = settings.jwt.require_known_project
            projects = TokenProjects(identities, clock, requires_known=requires_known)
        followers = [] if projects is None else [projects]
        sources = KeySources(auth, settings.state_dir, clock, identities, changes, followers)
        verifiers.append(KeyVerifier(sources, clock))
    if auth.has_jwt:
        with requires_extra("auth.mode jwt", "jwt"):
            from maxgate.auth.jwt_verifier import JwtAuthentication  # noqa: PLC0415  # an extra
        tokens = JwtAuthentication(settings.jwt, clock=clock)
        verifiers.append(
            tokens.verifier if projects is None else ProjectVerifier(tokens.verifier, projects)
        )
    results = AUTHENTICATION_RESULT.values or {}
    counters = {result: metrics.prepare(AUTHENTICATIONS, (result,)) for result in results}

    def count(result: str) -> None:
        counters.get(result, counters["invalid_token"])()

    authentication = Authentication(
        verifiers,
        FailureLimit(auth.max_failures, clock),
        count,
        proxies=TrustedProxies(settings.server.trusted_proxies),
        open_metrics=auth.open_metrics,
        open_docs=auth.open_docs,
    )
    return Keys(authentication, sources, identities, tokens)


class _ChangePublishers(KeyChangePublisher):
    """Reports changes to several parts of the gateway."""

    def __init__(self, publishers: Sequence[KeyChangePublisher]) -> None:
        self._publishers = publishers

    @override
    async def publish(self, ids: Collection[str]) -> None:
        for publisher in self._publishers:
            await publisher.publish(ids)


def build_stored_limits(keys: Keys, cards: Sequence[ModelCard]) -> StoredLimits | None:
    """Build the limits of the database, None without one.

    While serving, call `start` once and keep `run` running. It is a LimitSource.
    """
    if keys.identities is None:
        return None
    aliases = {name: card.name for card in cards for name in card.names}
    return StoredLimits(keys.identities.limits, aliases=aliases)


def build_alerts(settings: Settings, keys: Keys, clock: Clock) -> WebhookAlerts | None:
    """Build what sends alerts of budgets, None if there is no URL to send them to.

    While serving, keep `run` running; `aclose` it afterwards.
    """
    if settings.alerts.webhook_url is None:
        return None
    claims = None if keys.identities is None else keys.identities.limits
    return WebhookAlerts(settings.alerts, clock, claims)


def build_organization(
    settings: Settings, keys: Keys, clock: Clock, limits: StoredLimits | None = None
) -> Organization | NoOrganization:
    """Build what the admin API reads and changes.

    Its changes take effect in `keys` and `limits` at once.
    """
    sources = keys.sources
    if sources is None:
        return NoOrganization(
            "Projects, users and keys need authentication: set auth.mode (MAXGATE_AUTH__MODE) to "
            "`keys`."
        )
    if keys.identities is None:
        return NoOrganization(
            f"Projects, users and keys need a database, and the setting database.url is "
            f"`{settings.database.url}`."
        )
    changes = sources if limits is None else _ChangePublishers([sources, limits])
    return Organization(keys.identities, lambda: sources.peppers, clock, changes)


def open_identities(settings: Settings, clock: Clock) -> IdentityStore | None:
    """Open the database of keys; None if there is none.

    Raises ConfigurationError if it cannot be used.
    """
    if not settings.database.is_enabled:
        return None
    from maxgate.auth.pepper_check import open_checked_store  # noqa: PLC0415  # slow to import

    return open_checked_store(settings.auth, settings.database, settings.state_dir, clock=clock)


def open_usage(settings: Settings, clock: Clock) -> UsageStore | None:
    """Open the database of usage; None if usage is not recorded.

    Raises ConfigurationError if it cannot be used.
    """
    if not settings.usage.enabled:
        return None
    from maxgate.stores.usage_store import open_usage_store  # noqa: PLC0415  # slow to import

    return open_usage_store(settings.database, settings.state_dir, clock=clock)


def build_usage_ledger(
    settings: Settings,
    cards: Sequence[ModelCard],
    clock: Clock,
    metrics: MetricsStore,
) -> "SpooledLedger | None":
    """Build the ledger of requests, None if usage is not recorded.

    Raises ConfigurationError if its folder or database cannot be used.
    """
    if (store := open_usage(settings, clock)) is None:
        return None
    from maxgate.usage.ledger import SpooledLedger  # noqa: PLC0415  # only if it is used
    from maxgate.usage.mover import MoverEvents  # noqa: PLC0415

    slots = settings.admission.slots
    sizes = {card.name: slots or (card.max and card.max.max_batch_size) or 1 for card in cards}
    return SpooledLedger(
        settings.usage,
        settings.state_dir,
        store,
        clock,
        find_batch_size=lambda model: sizes.get(model, 1),
        on_written=partial(metrics.add, USAGE_LINES, ()),
        on_lost=partial(metrics.add, USAGE_LINES_LOST, ()),
        events=MoverEvents(
            partial(metrics.add, USAGE_LINES_MOVED, ()),
            partial(metrics.add, USAGE_LINES_LOST, ()),
            partial(metrics.set_gauge, USAGE_SPOOL_SIZE, ()),
        ),
    )


def build_key_changes(settings: Settings) -> KeyChanges:
    """Build the way in which gateways report changes of keys to each other.

    Raises ConfigurationError if a package is missing.
    """
    if settings.redis.url is None:
        return NoKeyChanges()
    with requires_extra("redis.url", "redis"):
        from maxgate.auth.redis_key_changes import RedisKeyChanges  # noqa: PLC0415  # an extra
        from maxgate.stores.redis import RedisStore  # noqa: PLC0415
    return RedisKeyChanges(RedisStore(settings.redis))


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
    """Build the ledger by which workers or gateways share slots, None if there is one worker.

    Raises ConfigurationError if a package is missing.
    """
    if settings.redis.url is None:
        return None if folder is None else FileLedger(folder / "admission")
    with requires_extra("redis.url", "redis"):
        from maxgate.admission.redis_ledger import RedisLedger  # noqa: PLC0415  # an extra
        from maxgate.stores.redis import RedisStore  # noqa: PLC0415
    return RedisLedger(RedisStore(settings.redis))


def build_limits(
    settings: Settings,
    clock: Clock,
    metrics: MetricsStore,
    folder: Path | None,
    *,
    sources: Sequence[LimitSource] = (),
    price: Price | None = None,
    count_used: CountUsed | None = None,
) -> Limits | None:
    """Build the limits, None if there are none.

    `folder` is that of the counters of all workers. `sources` have further limits, `price` and
    `count_used` are those of Limits.

    Raises ConfigurationError if a package is missing.
    """
    if not (settings.limits.is_enabled or sources):
        return None

    def count(limit: Limit) -> None:
        metrics.add(LIMIT_REFUSALS, (limit.scope.kind, limit.unit))

    return Limits(
        settings.limits,
        build_counter_table(settings, clock, folder),
        clock,
        sources=sources,
        processes=settings.server.workers,
        price=price,
        count_used=count_used,
        count=count,
        report=lambda is_degraded: metrics.set_gauge(LIMITS_DEGRADED, (), int(is_degraded)),
    )


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


def build_canary_control(control: EngineControl, canary: WorkerCanary) -> CanaryControl:
    """Build the control of the canary, which reaches the same workers as that of the engines."""
    if isinstance(control, ParentClient):
        return control
    if isinstance(control, ReadOnlyControl):
        return UnsupportedCanary()
    return build_single_process_canary(canary)


def connect_canary(
    settings: Settings, transport: httpx.AsyncBaseTransport | None, engine: ReplicaSettings
) -> EngineClient:
    """Return a client for the new engine of a canary."""
    if transport is not None:
        return HttpxEngineClient(transport)
    return EngineTransport(settings.upstream, [engine])


def build_moderator(clock: Clock, formats: Formats, upstream: UpstreamBackend) -> Moderator:
    """Build what judges texts by a model; guardrails do not apply to its own prompts."""
    around = layers(clock=clock, formats=formats.prompts.by_engine_name)
    return LlamaGuard(build_pipeline(around, upstream))


def build_guardrails(
    settings: Settings,
    cards: Sequence[ModelCard],
    catalog: LiveCatalog,
    metrics: MetricsStore,
    moderator: Moderator,
) -> "Guardrails | None":
    """Build the rules for content, None without any.

    Raises ConfigurationError if a package is missing, and for invalid expressions.
    """
    if not settings.guardrails:
        return None
    with requires_extra("setting guardrails", "guardrails"):
        from maxgate.guardrails.assembly import assemble_guardrails  # noqa: PLC0415  # an extra

    def count(rule: str, direction: str, decision: str, number: int) -> None:
        metrics.add(GUARDRAIL_DECISIONS, (rule, direction, decision), number)

    return assemble_guardrails(
        settings.guardrails,
        cards,
        is_own_key=is_well_formed,
        count=count,
        moderator=moderator,
        find_model=lambda name: catalog.find(name, "moderation"),
    )


def build_backend(
    clock: Clock,
    formats: Formats,
    upstream: UpstreamBackend,
    guardrails: "Guardrails | None",
    limits: Limits | None,
) -> Backend:
    """Build the pipeline of chat and text completions."""
    around = layers(
        clock=clock,
        formats=formats.prompts.by_engine_name,
        guardrails=None if guardrails is None else guardrails.wrap_backend,
        limits=[] if limits is None else [limits.layer],
    )
    return build_pipeline(around, upstream)


def build_embedder(
    settings: Settings,
    formats: Formats,
    upstream: Upstream,
    guard: Guard | None,
    guardrails: "Guardrails | None",
) -> Embedder:
    """Build the pipeline of embeddings."""
    around = embedding_layers(
        find_format=formats.embeddings.find,
        upstream=settings.upstream,
        guards=[] if guard is None else [guard],
        guardrails=None if guardrails is None else guardrails.wrap_embedder,
    )
    return build_embedding_pipeline(around, UpstreamEmbedder(upstream.pool))
