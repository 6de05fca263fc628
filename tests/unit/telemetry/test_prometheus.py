"""What Prometheus reads is what was counted, in names and units of its own conventions."""

from prometheus_client.parser import text_string_to_metric_families

from maxgate.telemetry.metrics_store import MetricsStore
from maxgate.telemetry.prometheus import exposition
from tests.fakes.clock import FakeClock
from tests.unit.telemetry.test_metrics_store import finished, record


def samples(accept: str = "text/plain") -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    store = MetricsStore(FakeClock())
    record(store, finished(duration=0.3), finished(duration=700.0), finished(outcome="timeout"))
    text, _ = exposition(store.snapshot(), [("http://engine", True, 2)], accept)
    families = text_string_to_metric_families(text.decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}


def test_counters_and_gauges() -> None:
    seen = samples()
    where = (("model", "small"), ("route", "/v1/x"))
    assert seen["maxgate_requests_total", (where[0], ("outcome", "ok"), where[1])] == 2
    assert seen["maxgate_requests_total", (where[0], ("outcome", "timeout"), where[1])] == 1
    assert seen["maxgate_tokens_total", (*where, ("type", "prompt"))] == 111
    assert seen["maxgate_requests_in_flight", ()] == 0
    assert seen["maxgate_workers", ()] == 1
    assert seen["maxgate_engine_up", (("engine", "http://engine"),)] == 1
    assert seen["maxgate_engine_requests_in_flight", (("engine", "http://engine"),)] == 2


def test_histograms_are_cumulative_over_the_bounds_of_the_conventions() -> None:
    name = "maxgate_request_duration_seconds"
    seen = samples()
    bounds = {
        dict(labels)["le"]: value for (n, labels), value in seen.items() if n == name + "_bucket"
    }
    assert [float(bound) for bound in list(bounds)[7:10]] == [0.16, 0.32, 0.64]
    assert (bounds["0.16"], bounds["0.32"], bounds["81.92"], bounds["+Inf"]) == (0, 1, 1, 2)
    assert seen[name + "_count", (("model", "small"), ("route", "/v1/x"))] == 2
    assert seen[name + "_sum", (("model", "small"), ("route", "/v1/x"))] == 700.3


def test_the_accept_header_chooses_the_format() -> None:
    snapshot = MetricsStore(FakeClock()).snapshot()
    assert exposition(snapshot, [], "text/plain")[1].startswith("text/plain")
    openmetrics = "application/openmetrics-text; version=1.0.0"
    assert exposition(snapshot, [], openmetrics)[1].startswith("application/openmetrics-text")
