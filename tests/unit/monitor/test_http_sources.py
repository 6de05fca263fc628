"""Reading of the gateway and of engines over HTTP."""

import httpx
import pytest
import respx

from maxgate.monitor.gateway_metrics import parse_gateway_metrics
from maxgate.monitor.http_sources import EngineSource, GatewaySource, metrics_url
from maxgate.monitor.max_metrics import parse_max_metrics
from maxgate.monitor.snapshot import EngineReading
from tests.fakes.gateway import TLS, StartGateway
from tests.unit.monitor.examples import ENGINE_METRICS_URL, gateway
from tests.unit.monitor.test_gateway_metrics import METRICS
from tests.unit.monitor.test_max_metrics import MAX_TEXT

URL = "http://gateway:8000"


async def test_gateway(respx_mock: respx.Router) -> None:
    """The gateway's metrics are requested with buckets."""
    route = respx_mock.get(URL + "/metrics", params={"buckets": "true"})
    route.respond(json=METRICS)
    async with httpx.AsyncClient(verify=TLS) as client:
        result = await GatewaySource(client, URL + "/").read(0)
    assert result == (parse_gateway_metrics(METRICS), None)


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (httpx.ConnectError("refused"), "connection failed"),
        (httpx.ReadTimeout("slow"), "no response within 3 s"),
        (httpx.RemoteProtocolError("bye"), "connection closed"),
        (httpx.Response(500), "HTTP 500"),
        (httpx.Response(401), "HTTP 401, set --api-key"),
        (httpx.Response(404), "HTTP 404, not a maxgate gateway"),
        (httpx.Response(200, text="# TYPE a counter"), "not a maxgate gateway"),
        (httpx.Response(200, json={"requests": 3}), "not a maxgate gateway"),
    ],
)
async def test_gateway_errors(
    respx_mock: respx.Router, response: httpx.Response | Exception, message: str
) -> None:
    """A failed read returns a short error."""
    respx_mock.get(URL + "/metrics").side_effect = [response]
    async with httpx.AsyncClient(verify=TLS) as client:
        assert await GatewaySource(client, URL).read(0) == (None, message)


async def test_backoff(respx_mock: respx.Router) -> None:
    """An unreachable gateway is retried after 1, 2, 4, 8 and 10 s, and read again at once."""
    route = respx_mock.get(URL + "/metrics")
    route.side_effect = httpx.ConnectError("refused")
    attempts = []
    async with httpx.AsyncClient(verify=TLS) as client:
        source = GatewaySource(client, URL)
        for second in range(40):
            before = route.call_count
            assert await source.read(second) == (None, "connection failed")
            attempts += [second] if route.call_count > before else []
        route.side_effect = None
        route.respond(json=METRICS)
        errors = [(await source.read(at))[1] for at in (44, 45, 46)]
    assert attempts == [0, 1, 3, 7, 15, 25, 35]
    assert errors == ["connection failed", None, None]


async def test_gateway_that_stopped(start_gateway: StartGateway) -> None:
    """A gateway that stopped is unreachable."""
    async with httpx.AsyncClient(verify=TLS) as client:
        async with start_gateway() as running:
            source = GatewaySource(client, running.url)
            assert (await source.read(0))[1] is None
        assert await source.read(1) == (None, "connection failed")


async def test_engines_of_the_gateway(respx_mock: respx.Router) -> None:
    """Engines are discovered through the gateway, and remembered while it is unreachable."""
    respx_mock.get(ENGINE_METRICS_URL).respond(text=MAX_TEXT)
    expected = (parse_max_metrics(ENGINE_METRICS_URL, MAX_TEXT),)
    async with httpx.AsyncClient(verify=TLS) as client:
        source = EngineSource(client)
        assert await source.read(0, gateway(1)) == expected
        assert await source.read(1, None) == expected


async def test_queue_of_an_engine(respx_mock: respx.Router) -> None:
    """Requests in MAX's queue do not run; without its depth, no more run than before."""
    route, url, seen = respx_mock.get("http://max:1/metrics"), "http://max:1/metrics", []
    async with httpx.AsyncClient() as client:
        source = EngineSource(client, [url])
        for requests, queued in ((9, None), (9, 6), (2, None), (20, None)):
            depth = "" if queued is None else f"maxserve_num_requests_queued {queued}\n"
            route.respond(
                text=f"maxserve_num_requests_running {requests}\n{depth}"
                "maxserve_num_requests_awaiting_admission 1\n"
            )
            (reading,) = await source.read(0, None)
            seen.append((reading.gauges["running"], reading.gauges.get("queued")))
    assert seen == [(9, None), (2, 6), (1, 0), (2, 17)]


@pytest.mark.parametrize("text", ["<html>", "", "other 1.0\n"])
async def test_engine_errors(respx_mock: respx.Router, text: str) -> None:
    """An engine without metrics of MAX has an error, repeated until the next attempt."""
    respx_mock.get("http://max:1/metrics").respond(text=text)
    async with httpx.AsyncClient(verify=TLS) as client:
        source = EngineSource(client, ["http://max:1/metrics"])
        (reading,) = await source.read(0, None)
        (repeated,) = await source.read(0.5, None)
    assert isinstance(reading, EngineReading)
    assert reading.error is not None
    assert repeated == reading


@pytest.mark.parametrize(
    ("engine", "metrics"),
    [
        ("http://localhost:8080", "http://localhost:8081/metrics"),
        ("http://max", "http://max:81/metrics"),
        ("https://max/", "https://max:444/metrics"),
        ("http://[::1]:8000/", "http://[::1]:8001/metrics"),
    ],
)
def test_metrics_url(engine: str, metrics: str) -> None:
    """MAX's metrics are on the port after the engine's."""
    assert metrics_url(engine) == metrics
