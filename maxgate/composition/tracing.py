"""Builds what traces requests, if tracing is on."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from maxgate.api.middleware import BeginTrace
from maxgate.clock import Clock
from maxgate.composition.tracing_export import build_exporter, check_sampler, refuse_warnings
from maxgate.generation.request_record import RequestSink
from maxgate.installation import requires_extra
from maxgate.pipeline import Layer
from maxgate.settings import Settings
from maxgate.telemetry.metrics_store import MetricsStore
from maxgate.telemetry.registry import SPANS_LOST

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

    from maxgate.telemetry.exemplars import ExemplarStore
    from maxgate.telemetry.tracing import Tracing


@dataclass(frozen=True)
class TracingParts:
    """The parts that trace requests; None and empty while tracing is off."""

    tracing: "Tracing | None" = None
    exemplars: "ExemplarStore | None" = None
    layer: Layer | None = None
    flush_timeout: float = 0.0

    @property
    def begin(self) -> BeginTrace | None:
        """The function that begins the trace of a request."""
        return None if self.tracing is None else self.tracing.begin

    @property
    def sinks(self) -> Sequence[RequestSink]:
        """The sinks of finished requests."""
        return [sink for sink in (self.tracing, self.exemplars) if sink is not None]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Export the last spans after the block."""
        try:
            yield
        finally:
            if self.tracing is not None:
                await self.tracing.close(self.flush_timeout)


def build_tracing(
    settings: Settings,
    clock: Clock,
    metrics: MetricsStore,
    folder: Path | None,
    processor: "SpanProcessor | None" = None,
) -> TracingParts:
    """Build the parts; `processor` replaces the export, in tests.

    Raises ConfigurationError if a package is missing, or a variable of the export is invalid.
    """
    own = settings.tracing
    if not own.enabled:
        return TracingParts()
    with requires_extra("setting tracing.enabled", "otel"):
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415  # an extra

        from maxgate.telemetry.exemplars import ExemplarStore  # noqa: PLC0415
        from maxgate.telemetry.tracing import (  # noqa: PLC0415
            ReportingExporter,
            Tracing,
            is_sdk_disabled,
            silence_exporter,
        )
        from maxgate.telemetry.tracing_layer import TracingLayer  # noqa: PLC0415

        if is_sdk_disabled():
            return TracingParts()
        check_sampler()
        with refuse_warnings():
            if processor is None and (exporter := build_exporter()) is not None:
                silence_exporter()
                on_loss = partial(metrics.add, SPANS_LOST, ())
                processor = BatchSpanProcessor(ReportingExporter(exporter, on_loss))
            tracing = Tracing(processor)
    return TracingParts(
        tracing,
        ExemplarStore(clock, folder),
        partial(TracingLayer, captures_content=own.capture_content),
        own.flush_timeout,
    )
