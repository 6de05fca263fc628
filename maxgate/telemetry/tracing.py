"""Traces of client requests, exported by OpenTelemetry.

The spans of a request are made at its end, from the times that its RequestTrace has noted. Names
and attributes follow OpenTelemetry's semantic conventions: those for generative AI in version
0.1.0, and those for HTTP.
"""

import asyncio
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from random import getrandbits
from typing import Any, Final
from urllib.parse import urlsplit

import structlog
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)
from typing_extensions import override

from maxgate import __version__
from maxgate.generation.request_record import RequestRecord, RequestSink
from maxgate.generation.trace import StepName
from maxgate.telemetry.request_trace import EngineAttempt, RecordedTrace

OPERATIONS: Final = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
}
"""Values of `gen_ai.operation.name` by route."""
_STEPS: Final[dict[StepName, str]] = {
    "queue": "wait in the queue",
    "prompt": "encode the prompt",
    "cache": "look up the cache",
}
# Outcomes that are no fault of the client; others leave the status unset, as HTTP's conventions do.
_FAILURES: Final = frozenset(
    {"unavailable", "timeout", "upstream_error", "truncated", "internal_error"}
)
_PARENT: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_MAX_STATE_BYTES: Final = 512
_SCOPE: Final = InstrumentationScope("maxgate", __version__)
_RECORDED: Final = Decision.RECORD_AND_SAMPLE
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_UNSET: Final = Status(StatusCode.UNSET)
_FAILED: Final = Status(StatusCode.ERROR)

# Loggers with lines for each batch that fails. Others of the SDK explain invalid variables.
_SILENCED: Final = ("opentelemetry.exporter.otlp", "opentelemetry.sdk._shared_internal")

_log = structlog.get_logger("telemetry")


def parse_parent(value: bytes) -> SpanContext | None:
    """Parse a `traceparent` as W3C Trace Context defines it; None if it is malformed."""
    found = _PARENT.fullmatch(value)
    if found is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    if version == b"ff" or (version == b"00" and rest is not None):
        return None
    sampled = TraceFlags(int(flags, 16) & TraceFlags.SAMPLED)
    context = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=sampled)
    return context if context.is_valid else None


def parse_state(value: bytes | None) -> TraceState:
    """Parse a `tracestate`; empty if it is malformed or too long."""
    if value is None or len(value) > _MAX_STATE_BYTES or not value.isascii():
        return TraceState()
    return TraceState.from_header([value.decode()])


class Tracing(RequestSink):
    """Begins traces, and passes the spans of finished requests to a processor.

    Sampler and resource are those of the standard OTEL_ variables. Without a processor, ids are
    passed on, but no spans are made.
    """

    def __init__(self, processor: SpanProcessor | None) -> None:
        resource = Resource.create({"service.version": __version__})
        if str(resource.attributes["service.name"]).startswith("unknown_service"):
            resource = resource.merge(Resource({"service.name": "maxgate"}))
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._resource = provider.resource
        self._sampler = provider.sampler
        self._processor = processor

    def begin(self, parent: bytes | None, state: bytes | None) -> RecordedTrace:
        """Begin the trace of a request with these headers; malformed ones are ignored."""
        context, remote = None, None if parent is None else parse_parent(parent)
        if remote is None:
            trace_id, parent_id = getrandbits(128) or 1, 0
        else:
            trace_id, parent_id = remote.trace_id, remote.span_id
            remote = SpanContext(
                trace_id,
                parent_id,
                is_remote=True,
                trace_flags=remote.trace_flags,
                trace_state=parse_state(state),
            )
            context = set_span_in_context(NonRecordingSpan(remote))
        decision = self._sampler.should_sample(context, trace_id, "request", SpanKind.SERVER)
        trace_state = decision.trace_state
        is_sampled = decision.decision is _RECORDED and self._processor is not None
        text = trace_state.to_header() if trace_state else ""
        return RecordedTrace(trace_id, parent_id, is_sampled, text)

    @override
    def request_started(self) -> None:
        """Do nothing: `begin` has the headers."""

    @override
    def request_finished(self, record: RequestRecord) -> None:
        trace = record.trace
        if self._processor is None or not isinstance(trace, RecordedTrace):
            return
        if trace.is_sampled:
            for span in self._build_spans(record, trace):
                self._processor.on_end(span)

    def _build_spans(self, record: RequestRecord, trace: RecordedTrace) -> Iterator[ReadableSpan]:
        state = TraceState.from_header([trace.state]) if trace.state else TraceState()

        def build_context(span_id: int) -> SpanContext:
            return SpanContext(trace.trace_id, span_id, False, _SAMPLED, state)

        def build_span(
            name: str,
            context: SpanContext,
            start: float,
            end: float,
            parent: SpanContext | None = None,
            attributes: dict[str, Any] | None = None,
            kind: SpanKind = SpanKind.INTERNAL,
            status: Status = _UNSET,
        ) -> ReadableSpan:
            return ReadableSpan(
                name,
                context,
                parent,
                self._resource,
                attributes,
                kind=kind,
                status=status,
                start_time=trace.started_ns + int((start - trace.started_at) * 1e9),
                end_time=trace.started_ns + int((end - trace.started_at) * 1e9),
                instrumentation_scope=_SCOPE,
            )

        own = build_context(trace.span_id)
        for step in trace.steps:
            context = build_context(getrandbits(64) or 1)
            yield build_span(_STEPS[step.name], context, step.started_at, step.ended_at, own)
        end = trace.started_at + record.duration
        for number, attempt in enumerate(trace.attempts):
            yield build_span(
                f"POST {attempt.path}",
                build_context(attempt.span_id),
                attempt.started_at,
                attempt.ended_at or end,
                own,
                describe_attempt(attempt, number),
                SpanKind.CLIENT,
                _UNSET if attempt.error in {None, "cancelled"} else _FAILED,
            )
        parent = None
        if trace.parent_id:
            parent = SpanContext(trace.trace_id, trace.parent_id, True, _SAMPLED, state)
        attributes = describe_request(record, trace)
        operation = attributes.get("gen_ai.operation.name")
        yield build_span(
            f"{operation} {record.model}" if operation else f"{record.method} {record.route}",
            own,
            trace.started_at,
            end,
            parent,
            attributes,
            SpanKind.SERVER,
            _FAILED if record.outcome in _FAILURES else _UNSET,
        )

    async def close(self, seconds: float) -> None:
        """Export what is left, for at most this long."""
        processor = self._processor
        if processor is None:
            return
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            processor.shutdown()
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(done.set)

        # A daemon, unlike the threads of asyncio: a collector that hangs must not delay the exit.
        threading.Thread(target=shut_down, name="trace-shutdown", daemon=True).start()
        try:
            async with asyncio.timeout(seconds):
                await done.wait()
        except TimeoutError:
            _log.warning("the last traces were not exported in time", seconds=seconds)


def describe_request(record: RequestRecord, trace: RecordedTrace) -> dict[str, Any]:
    """Return the attributes of the span of a client request."""
    attributes: dict[str, Any] = {
        "http.request.method": record.method,
        "http.route": record.route,
        "maxgate.outcome": record.outcome,
        "maxgate.request.id": record.request_id,
    }
    if record.status:
        attributes["http.response.status_code"] = record.status
    if record.outcome != "ok":
        attributes["error.type"] = record.error_code or record.outcome
    if record.refusal is not None:
        attributes["maxgate.refusal"] = record.refusal
    operation = OPERATIONS.get(record.route)
    if operation is None or record.model is None:
        return attributes
    attributes["gen_ai.operation.name"] = operation
    attributes["gen_ai.provider.name"] = "modular"
    attributes["gen_ai.request.model"] = record.model
    attributes["gen_ai.response.model"] = record.model
    attributes["gen_ai.usage.input_tokens"] = record.prompt_tokens
    if operation != "embeddings":
        attributes["gen_ai.request.stream"] = record.stream
        attributes["gen_ai.usage.output_tokens"] = record.completion_tokens
    if record.cached_tokens:
        attributes["gen_ai.usage.cache_read.input_tokens"] = record.cached_tokens
    if record.time_to_first_token is not None:
        attributes["gen_ai.response.time_to_first_chunk"] = record.time_to_first_token
    attributes.update(trace.details)
    return attributes


def describe_attempt(attempt: EngineAttempt, number: int) -> dict[str, Any]:
    """Return the attributes of the span of an attempt, the one with this number from 0."""
    address = urlsplit(attempt.engine)
    attributes: dict[str, Any] = {
        "http.request.method": "POST",
        "url.full": attempt.engine + attempt.path,
        "server.address": address.hostname or "",
        "server.port": address.port or (443 if address.scheme == "https" else 80),
        "gen_ai.request.model": attempt.model,
        "maxgate.attempt.reason": attempt.reason,
    }
    if number and attempt.reason != "call":
        attributes["http.request.resend_count"] = number
    if attempt.status:
        attributes["http.response.status_code"] = attempt.status
    if attempt.first_token_at is not None:
        seconds = attempt.first_token_at - attempt.started_at
        attributes["gen_ai.response.time_to_first_chunk"] = seconds
    if attempt.error is not None:
        attributes["error.type"] = attempt.error
    return attributes


class ReportingExporter(SpanExporter):
    """Passes spans to another exporter; a failure is logged once until the next success.

    `on_loss` is called with each number of spans that were lost, in the thread that exports.
    """

    def __init__(self, inner: SpanExporter, on_loss: Callable[[int], None]) -> None:
        self._inner = inner
        self._on_loss = on_loss
        self._is_failing = False

    @override
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        cause = "refused by the collector"
        try:
            result = self._inner.export(spans)
        except Exception as error:  # noqa: BLE001  # whatever it is, the gateway goes on
            result, cause = SpanExportResult.FAILURE, type(error).__name__
        is_failing = result is not SpanExportResult.SUCCESS
        if is_failing:
            self._on_loss(len(spans))
        if is_failing and not self._is_failing:
            _log.warning("traces are lost, the collector does not take them", cause=cause)
        elif self._is_failing and not is_failing:
            _log.info("the collector takes traces again")
        self._is_failing = is_failing
        return result

    @override
    def shutdown(self) -> None:
        self._inner.shutdown()


def silence_exporter() -> None:
    """Drop OpenTelemetry's own log lines about exports, which ReportingExporter replaces."""
    for name in _SILENCED:
        logger = logging.getLogger(name)
        logger.addHandler(logging.NullHandler())  # without a handler, Python writes to stderr
        logger.propagate = False


def is_sdk_disabled() -> bool:
    """Return whether OTEL_SDK_DISABLED switches OpenTelemetry off."""
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
