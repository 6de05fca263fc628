"""Promises of traces beside their spans: ids, failing exports, and shutdown."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from maxgate.composition.tracing import build_tracing
from maxgate.errors import ConfigurationError
from maxgate.settings import Settings
from maxgate.telemetry.exemplars import Exemplar, ExemplarStore
from maxgate.telemetry.metrics_store import MetricsStore
from maxgate.telemetry.registry import QUEUE_DURATION, REQUEST_DURATION
from maxgate.telemetry.request_trace import RecordedTrace
from maxgate.telemetry.tracing import ReportingExporter, Tracing, parse_state
from tests.fakes.clock import FakeClock
from tests.fakes.request_records import finished_record


class FakeExporter(SpanExporter):
    """Does with spans what the test says."""

    def __init__(self) -> None:
        self.result: SpanExportResult | Exception = SpanExportResult.SUCCESS

    def export(self, spans: object) -> SpanExportResult:
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


class StuckProcessor(SpanProcessor):
    """Never comes to an end by itself."""

    def __init__(self) -> None:
        self.released = threading.Event()

    def shutdown(self) -> None:
        self.released.wait()


def test_failing_export() -> None:
    """An export that fails counts its spans as lost, and is logged once until it succeeds."""
    exporter, lost = FakeExporter(), list[int]()
    reporting = ReportingExporter(exporter, lost.append)
    results = (
        SpanExportResult.SUCCESS,
        ConnectionError(),
        SpanExportResult.FAILURE,
        SpanExportResult.SUCCESS,
        SpanExportResult.FAILURE,
    )
    with structlog.testing.capture_logs() as lines:
        for result in results:
            exporter.result = result
            reporting.export([None, None])  # type: ignore[list-item]
    assert lost == [2, 2, 2]
    assert [(line["log_level"], line.get("cause")) for line in lines] == [
        ("warning", "ConnectionError"),
        ("info", None),
        ("warning", "refused by the collector"),
    ]


async def test_end_is_bounded() -> None:
    """A collector that hangs does not keep the gateway from stopping."""
    processor = StuckProcessor()
    await Tracing(processor).close(0.01)
    processor.released.set()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, ""),
        (b"a=1,b=2", "a=1,b=2"),
        (b"a=1, a=2", ""),
        (b"no pairs", ""),
        (b"a=\xff", ""),
        (b"a=" + b"1" * 600, ""),
    ],
)
def test_state(given: bytes | None, expected: str) -> None:
    """A `tracestate` is passed on if it is valid and short."""
    assert parse_state(given).to_header() == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [("OTEL_TRACES_EXPORTER", "zipkin"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
)
def test_unknown_export(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """An export that there is not is refused by a message that names the variable."""
    monkeypatch.setenv(name, value)
    clock = FakeClock()
    with pytest.raises(ConfigurationError, match=f"^{name} is {value}, but .*; set "):
        build_tracing(Settings(tracing={"enabled": True}), clock, MetricsStore(clock), None)


@pytest.mark.parametrize(
    "value",
    ["", "not a url", "localhost:4318", "http://", "http://a:b", "http://a b", "grpc://a:1"],
)
@pytest.mark.parametrize(
    "name", ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"]
)
def test_invalid_collector(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """A collector's address that is no URL is refused by a message that names the variable."""
    monkeypatch.setenv(name, value)
    clock = FakeClock()
    with pytest.raises(ConfigurationError, match=f"^{name} is '{value}', which is not the http or"):
        build_tracing(Settings(tracing={"enabled": True}), clock, MetricsStore(clock), None)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {"OTEL_TRACES_SAMPLER": "parentbased_traceidratoi", "OTEL_TRACES_SAMPLER_ARG": "0.1"},
            "OTEL_TRACES_SAMPLER is 'parentbased_traceidratoi', which is no sampler; set one of "
            "parentbased_always_on, parentbased_always_off, parentbased_traceidratio, always_on, "
            "always_off, traceidratio",
        ),
        (
            {"OTEL_TRACES_SAMPLER_ARG": "0.1"},
            "OTEL_TRACES_SAMPLER_ARG has no effect with OTEL_TRACES_SAMPLER parentbased_always_on; "
            "set parentbased_traceidratio, or unset OTEL_TRACES_SAMPLER_ARG",
        ),
        (
            {"OTEL_TRACES_SAMPLER": "traceidratio"},
            "OTEL_TRACES_SAMPLER_ARG is not set, but OTEL_TRACES_SAMPLER traceidratio needs the "
            "share of requests to trace; set a number from 0 to 1, such as 0.1",
        ),
        (
            {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "10%"},
            "OTEL_TRACES_SAMPLER_ARG is '10%', but OTEL_TRACES_SAMPLER traceidratio needs the "
            "share of requests to trace; set a number from 0 to 1, such as 0.1",
        ),
        (
            {"OTEL_RESOURCE_ATTRIBUTES": "team"},
            "an OTEL_ variable is invalid: Invalid key value resource attribute pair team: not "
            "enough values to unpack (expected 2, got 1); correct the variable, or unset it",
        ),
        (
            {"OTEL_EXPORTER_OTLP_HEADERS": "s3cret"},
            "an OTEL_ variable is invalid: write OTEL_EXPORTER_OTLP_HEADERS as name=value; correct "
            "the variable, or unset it",
        ),
        (
            {"OTEL_BSP_MAX_QUEUE_SIZE": "many"},
            "an OTEL_ variable is invalid: Unable to parse value for OTEL_BSP_MAX_QUEUE_SIZE as "
            "integer. Defaulting to 2048; correct the variable, or unset it",
        ),
        (
            {"OTEL_BSP_MAX_QUEUE_SIZE": "1"},
            "an OTEL_ variable is invalid: max_export_batch_size must be less than or equal to "
            "max_queue_size.",
        ),
    ],
)
def test_invalid_variable(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], message: str
) -> None:
    """A variable that OpenTelemetry would ignore with a warning is refused."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    clock = FakeClock()
    with pytest.raises(ConfigurationError) as caught:
        build_tracing(Settings(tracing={"enabled": True}), clock, MetricsStore(clock), None)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["OTEL_SDK_DISABLED", "MAXGATE"])
def test_off(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Tracing is off by default, and by the standard's variable."""
    monkeypatch.setenv(name, "true")
    clock, settings = FakeClock(), Settings(tracing={"enabled": name == "OTEL_SDK_DISABLED"})
    parts = build_tracing(settings, clock, MetricsStore(clock), None)
    assert (parts.begin, parts.sinks, parts.layer) == (None, [], None)


@pytest.mark.parametrize("shares", [False, True])
def test_exemplars(tmp_path: Path, *, shares: bool) -> None:
    """The latest sampled request of each bucket is kept; failures are in no latency."""
    clock = FakeClock()
    store = ExemplarStore(clock, tmp_path if shares else None)
    for trace_id, seconds, is_sampled in ((1, 1.0, True), (2, 1.125, True), (3, 1.25, False)):
        record = finished_record(duration=seconds)
        record.trace = RecordedTrace(trace_id, 0, is_sampled=is_sampled)
        store.request_finished(record)
    failed = finished_record(outcome="timeout")
    failed.trace = RecordedTrace(4, 0, is_sampled=True)
    store.request_finished(failed)
    found = store.read()
    now = clock.wall()
    assert list(found[REQUEST_DURATION]["/v1/x", "small"].values()) == [
        Exemplar(f"{2:032x}", 1.125, now)
    ]
    assert list(found[QUEUE_DURATION]["small",].values()) == [
        Exemplar(f"{4:032x}", failed.queue_seconds, now)
    ]


def test_settings_that_contradict() -> None:
    """Text of requests needs tracing, and must not pass guardrails by."""
    rule = {"name": "a", "kind": "secrets", "action": "mask"}
    cases: list[Callable[[], Settings]] = [
        lambda: Settings(tracing={"capture_content": True}),
        lambda: Settings(tracing={"enabled": True, "capture_content": True}, guardrails=[rule]),
    ]
    for case, message in zip(cases, ["has no effect", "would export"], strict=True):
        with pytest.raises(ValueError, match=f"capture_content {message}"):
            case()
