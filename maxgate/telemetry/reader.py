"""Reads the metrics of all workers, for `GET /metrics`."""

from collections.abc import Sequence
from typing import Any

from maxgate.telemetry.metrics_store import MetricsStore
from maxgate.telemetry.prometheus import exposition


class StoreReader:
    """Renders a store's snapshot as JSON or Prometheus text."""

    def __init__(self, store: MetricsStore) -> None:
        self._store = store

    def describe(self, *, buckets: bool) -> dict[str, Any]:
        """Return the JSON report, with histogram buckets if asked for."""
        return self._store.snapshot().describe(buckets=buckets)

    def expose(self, engines: Sequence[tuple[str, bool, int]], accept: str) -> tuple[bytes, str]:
        """Return the Prometheus text and its content type."""
        return exposition(self._store.snapshot(), engines, accept)
