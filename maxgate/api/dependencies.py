"""Dependencies of the ordinary FastAPI routes, read from the application's state.

Tests and embedding applications replace them with `app.dependency_overrides`.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Protocol

from fastapi import Depends, Request

from maxgate.api.model_access import restrict
from maxgate.generation.catalog import EngineHealth, ModelCatalog
from maxgate.generation.context import RequestContext


class MetricsReader(Protocol):
    """Metrics summed over all workers."""

    def describe(self, *, buckets: bool) -> dict[str, Any]:
        """Return the JSON report, with histogram buckets if asked for."""
        ...

    async def refresh(self) -> None:
        """Read the host, its GPUs and certificates again, as far as they are exported."""
        ...

    def expose(
        self,
        engines: Sequence[tuple[str, bool, int, int | None, int]],
        accept: str,
        activity: Sequence[tuple[str, int, int, float, float]] = (),
        *,
        for_admin: bool = True,
    ) -> tuple[bytes, str]:
        """Return the Prometheus text and its content type.

        `engines` lists each engine's URL, whether it is healthy, its requests in flight, those by
        its own metrics if known, and the number of circuit breakers that are not closed.
        `activity` lists windows with their users, requests, and cost and price per request. What is
        for admins is left out without `for_admin`.
        """
        ...

    def expose_as_vllm(
        self, models: Sequence[tuple[str, str, Sequence[float]]]
    ) -> tuple[bytes, str]:
        """Return the Prometheus text under vLLM's names, and its content type.

        `models` lists each model's name, its name at the engines, and the used share of the KV
        cache of each engine that reports it.
        """
        ...


class ActivityReader(Protocol):
    """Users of the last minutes and day."""

    async def read(self) -> Sequence[tuple[str, int, int, float, float]]:
        """Return windows with their users, requests, and cost and price per request."""
        ...


def get_catalog(request: Request) -> ModelCatalog:
    """Return the catalog of served models that the caller may use."""
    context: RequestContext = request.state.context
    return restrict(request.app.state.catalog, context.models, context.project_models)


def get_engines(request: Request) -> Sequence[EngineHealth]:
    """Return the state of every engine."""
    engines: Sequence[EngineHealth] = request.app.state.engines
    return engines


def get_metrics(request: Request) -> MetricsReader:
    """Return the metrics of all workers."""
    metrics: MetricsReader = request.app.state.metrics
    return metrics


async def read_activity(request: Request) -> Sequence[tuple[str, int, int, float, float]]:
    """Return users of the last minutes and day; empty if usage is not recorded."""
    reader: ActivityReader | None = request.app.state.activity
    return () if reader is None else await reader.read()


def reads_all_metrics(request: Request) -> bool:
    """Return whether the caller may read metrics that are for admins.

    Admins have proved to be one, or are on this machine without keys: pages that need no key have
    no admins. The key of the metrics may, too.
    """
    context: RequestContext = request.state.context
    has_key = context.record.key_id is not None
    is_admin = context.is_admin and (has_key or not request.app.state.has_admins)
    return is_admin or context.reads_metrics


Catalog = Annotated[ModelCatalog, Depends(get_catalog)]
Engines = Annotated[Sequence[EngineHealth], Depends(get_engines)]
Metrics = Annotated[MetricsReader, Depends(get_metrics)]
