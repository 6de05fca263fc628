"""Gateway and MAX are asked over HTTP; who does not answer is left alone for a while."""

from contextlib import suppress

import httpx
import pytest
import respx
from hypothesis import given
from hypothesis import strategies as st

from maxgate.monitor.gateway_metrics import read_gateway
from maxgate.monitor.http_sources import EngineSource, GatewaySource, metrics_url
from maxgate.monitor.max_metrics import read_engine
from maxgate.monitor.snapshot import EngineReading, EngineState
from tests.unit.monitor.examples import gateway

URL = "http://gateway:8000"
METRICS = {
    "requests": {"by_outcome": {"ok": 2}, "in_flight": 1},
    "tokens": {"prompt": 20, "completion": 8, "cached": 0, "total": 28},
    "models": {
        name: {
            "latency_seconds": {"count": 1, "mean": 0.5, "buckets": [[0.4, 0.6, 1]]},
            "time_to_first_token_seconds": {"count": 0, "mean": None, "buckets": []},
            "time_per_output_token_seconds": {"count": 0, "mean": None},
        }
        for name in ("a", "b")
    },
    "engines": [
        {
            "url": "http://max:8080",
            "state": "healthy",
            "models": ["a"],
            "in_flight": 1,
            "error": None,
        }
    ],
    "workers": 2,
    "processes": {"cpu_seconds": 3.5, "resident_bytes": 1000},
    "uptime_seconds": 60.0,
}
WITHOUT_A_PORT = {**METRICS, "engines": [{"url": "http://max:http"}]}


async def test_the_gateways_models_are_read_together(respx_mock: respx.Router) -> None:
    route = respx_mock.get(URL + "/metrics", params={"buckets": "true"})
    route.respond(json=METRICS)
    async with httpx.AsyncClient() as client:
        reading, error = await GatewaySource(client, URL + "/").read(0)
    assert error is None
    assert reading is not None
    assert reading.latency.buckets == ((0.4, 0.6, 2),)
    assert reading.latency.total == 1.0
    assert (reading.workers, reading.uptime, reading.cpu_seconds) == (2, 60, 3.5)
    assert reading.engines == (EngineState("http://max:8080", "healthy", ("a",), 1),)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (httpx.ConnectError("refused"), "no connection"),
        (httpx.ReadTimeout("slow"), "no answer within 3 s"),
        (httpx.RemoteProtocolError("bye"), "hung up"),
        (httpx.Response(500), "answered 500"),
        (httpx.Response(401), "answered 401; give a key with --api-key"),
        (httpx.Response(200, text="# TYPE a counter"), "it answers, but not as maxgate does"),
        (httpx.Response(200, json={"requests": 3}), "it answers, but not as maxgate does"),
        (httpx.Response(200, json=[]), "it answers, but not as maxgate does"),
        (httpx.Response(200, json=WITHOUT_A_PORT), "it answers, but not as maxgate does"),
    ],
)
async def test_why_the_gateway_cannot_be_read(
    respx_mock: respx.Router, answer: httpx.Response | Exception, said: str
) -> None:
    respx_mock.get(URL + "/metrics").side_effect = [answer]
    async with httpx.AsyncClient() as client:
        assert await GatewaySource(client, URL).read(0) == (None, said)


async def test_a_gateway_that_is_away_is_asked_less_and_less_and_is_back_at_once(
    respx_mock: respx.Router,
) -> None:
    route = respx_mock.get(URL + "/metrics")
    route.side_effect = httpx.ConnectError("refused")
    asked = []
    async with httpx.AsyncClient() as client:
        source = GatewaySource(client, URL)
        for second in range(40):
            before = route.call_count
            assert await source.read(second) == (None, "no connection")
            asked += [second] if route.call_count > before else []
        route.side_effect = None
        route.respond(json=METRICS)
        assert [(await source.read(at))[1] for at in (44, 45, 46)] == ["no connection", None, None]
    assert asked == [0, 1, 3, 7, 15, 25, 35]


MAX_TEXT = """\
# TYPE maxserve_num_requests_running gauge
maxserve_num_requests_running 3.0
# TYPE maxserve_request_count_total counter
maxserve_request_count_total{code="200",path="/v1/completions"} 5.0
maxserve_request_count_total{code="400",path="/v1/completions"} 2.0
# TYPE maxserve_cache_hits_tokens_total counter
maxserve_cache_hits_tokens_total{tier="g0"} 7.0
maxserve_cache_hits_tokens_total{tier="external"} 1.0
maxserve_cache_hits_tokens_total 8.0
# TYPE maxserve_batch_size histogram
maxserve_batch_size_bucket{batch_type="TG",le="4.0"} 10.0
maxserve_batch_size_bucket{batch_type="TG",le="+Inf"} 10.0
maxserve_batch_size_sum{batch_type="TG"} 30.0
maxserve_batch_size_count{batch_type="TG"} 10.0
# TYPE maxserve_time_to_first_token_milliseconds histogram
maxserve_time_to_first_token_milliseconds_bucket{le="50.0"} 4.0
maxserve_time_to_first_token_milliseconds_bucket{le="100.0"} 6.0
maxserve_time_to_first_token_milliseconds_bucket{le="+Inf"} 6.0
maxserve_time_to_first_token_milliseconds_sum 250.0
# TYPE other gauge
other 1.0
"""


async def test_max_is_read_on_the_port_after_its_own(respx_mock: respx.Router) -> None:
    respx_mock.get("http://127.0.0.1:8001/metrics").respond(text=MAX_TEXT)
    async with httpx.AsyncClient() as client:
        (reading,) = await EngineSource(client).read(0, gateway(1))
    assert reading.error is None
    assert reading.gauges == {"running": 3}
    assert reading.counters == {"requests": 7, "cache_hit_tokens": 8}
    assert {name: (h.buckets, h.total) for name, h in reading.histograms.items()} == {
        "batch_size_decode": (((0, 4, 10),), 30),
        "time_to_first_token": (((0, 0.05, 4), (0.05, 0.1, 2)), 0.25),
    }


async def test_engines_stay_known_while_the_gateway_is_away(respx_mock: respx.Router) -> None:
    route = respx_mock.get("http://127.0.0.1:8001/metrics")
    route.respond(text=MAX_TEXT)
    async with httpx.AsyncClient() as client:
        source = EngineSource(client)
        await source.read(0, gateway(1))
        (reading,) = await source.read(1, None)
    assert reading.gauges == {"running": 3}


@pytest.mark.parametrize("text", ["<html>", "", "other 1.0\n"])
async def test_metrics_of_somebody_else(respx_mock: respx.Router, text: str) -> None:
    respx_mock.get("http://max:1/metrics").respond(text=text)
    async with httpx.AsyncClient() as client:
        source = EngineSource(client, ["http://max:1/metrics"])
        (reading,) = await source.read(0, None)
        (again,) = await source.read(0.5, None)
    assert isinstance(reading, EngineReading)
    assert reading.error is not None
    assert again == reading


@pytest.mark.parametrize(
    ("engine", "metrics"),
    [
        ("http://localhost:8080", "http://localhost:8081/metrics"),
        ("http://max", "http://max:81/metrics"),
        ("https://max/", "https://max:444/metrics"),
        ("http://[::1]:8000/", "http://[::1]:8001/metrics"),
    ],
)
def test_where_the_metrics_are(engine: str, metrics: str) -> None:
    assert metrics_url(engine) == metrics


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=9,
)


@given(st.sampled_from(sorted(METRICS)), json_values)
def test_whatever_json_comes_is_a_reading_or_a_reason(field: str, value: object) -> None:
    with suppress(ValueError):
        metrics_of = read_gateway({**METRICS, field: value}).engines
        assert all(metrics_url(engine.url) for engine in metrics_of)


@given(st.text() | st.text().map(lambda text: MAX_TEXT + text))
def test_whatever_text_comes_is_a_reading_or_a_reason(text: str) -> None:
    with suppress(ValueError):
        assert read_engine("http://max", text).url == "http://max"
