"""Builds what traces requests, if tracing is on."""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from maxgate.api.middleware import BeginTrace
from maxgate.clock import Clock
from maxgate.errors import ConfigurationError
from maxgate.generation.request_record import RequestSink
from maxgate.installation import requires_extra
from maxgate.pipeline import Layer
from maxgate.settings import Settings
from maxgate.telemetry.metrics_store import MetricsStore
from maxgate.telemetry.registry import SPANS_LOST

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.sdk.trace.export import SpanExporter

    from maxgate.telemetry.exemplars import ExemplarStore
    from maxgate.telemetry.tracing import Tracing


@dataclass(frozen=True)
class TracingParts:
    """What traces requests; None and empty while tracing is off."""

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

    Raises ConfigurationError if a package is missing, or for an exporter that there is not.
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
        if processor is None and (exporter := _build_exporter()) is not None:
            silence_exporter()
            on_loss = partial(metrics.add, SPANS_LOST, ())
            processor = BatchSpanProcessor(ReportingExporter(exporter, on_loss))
    return TracingParts(
        Tracing(processor),
        ExemplarStore(clock, folder),
        partial(TracingLayer, captures_content=own.capture_content),
        own.flush_timeout,
    )


def _build_exporter() -> "SpanExporter | None":
    """Build the exporter that the OTEL_ variables choose."""
    chosen = os.environ.get("OTEL_TRACES_EXPORTER", "otlp").strip()
    if chosen == "none":
        return None
    if chosen not in {"", "otlp"}:
        raise ConfigurationError(
            f"OTEL_TRACES_EXPORTER is {chosen}, but traces are exported by OTLP only; set otlp or "
            "none"
        )
    protocol = os.environ.get(
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
    )
    if protocol != "http/protobuf":
        raise ConfigurationError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol}, but traces are exported by http/protobuf "
            "only; set that and the collector's port for it, such as 4318"
        )
    _check_endpoint()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter,
    )

    try:
        return OTLPSpanExporter()
    except ValueError as error:
        raise ConfigurationError(f"an OTEL_EXPORTER_OTLP_ variable is invalid: {error}") from error


def _check_endpoint() -> None:
    """Raise ConfigurationError for an address of the collector that is no URL of HTTP."""
    for name in ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        value = os.environ.get(name)
        if value is None:
            continue
        try:
            url = urlsplit(value)
            is_valid = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
        except ValueError:  # such as a port that is no number
            is_valid = False
        if not is_valid or any(character.isspace() for character in value):
            raise ConfigurationError(
                f"{name} is {value[:100]!r}, which is not the http or https URL of a collector; "
                "write one such as http://localhost:4318, or unset the variable"
            )
        return  # the variable of traces takes precedence
