"""Builds the pipelines of requests."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from maxgate.auth.api_key import is_well_formed
from maxgate.clock import Clock
from maxgate.composition.engines import Formats, Upstream
from maxgate.composition.limits import LimitParts
from maxgate.generation.backend import Backend, Embedder
from maxgate.generation.guard import Guard
from maxgate.generation.moderation import Moderator
from maxgate.guardrails.llama_guard import LlamaGuard
from maxgate.installation import requires_extra
from maxgate.model_cards.card import ModelCard
from maxgate.pipeline import (
    Layer,
    build_embedding_pipeline,
    build_pipeline,
    embedding_layers,
    layers,
)
from maxgate.settings import Settings
from maxgate.telemetry.metrics_store import MetricsStore
from maxgate.telemetry.registry import (
    GUARDRAIL_DECISIONS,
)
from maxgate.upstream.backend import UpstreamBackend
from maxgate.upstream.catalog import LiveCatalog
from maxgate.upstream.embedder import UpstreamEmbedder

if TYPE_CHECKING:
    from maxgate.guardrails.assembly import Guardrails


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
    limits: LimitParts,
    tracing: Layer | None = None,
) -> Backend:
    """Build the pipeline of chat and text completions."""
    around = layers(
        clock=clock,
        formats=formats.prompts.by_engine_name,
        tracing=tracing,
        guardrails=None if guardrails is None else guardrails.wrap_backend,
        limits=limits.layers,
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
