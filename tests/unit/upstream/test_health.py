"""A replica is healthy while it lists its models, and unreachable if it refuses connections."""

import asyncio

import httpx
import pytest
import respx
from structlog.testing import capture_logs

from maxgate.generation.catalog import Capabilities
from maxgate.upstream.client import HttpxEngineClient
from maxgate.upstream.health import HealthMonitor
from maxgate.upstream.replica import EngineModel, Replica
from maxgate.upstream.settings import UpstreamSettings
from tests.fakes.waiting import until

URL = "http://engine:8080"
MODELS = {"data": [{"id": "small", "created": 1, "max_model_len": 100}]}

INVALID_LIST = "invalid model list: not an OpenAI-compatible server"


class Fixture:
    """A monitor of one replica; `calls` records its callbacks."""

    def __init__(self, router: respx.Router, **settings: float) -> None:
        self.replica = Replica(URL + "/")
        self.calls: list[str] = []
        self.failures: list[BaseException] = []
        self.now = 1000.0
        self.monitor = HealthMonitor(
            [self.replica],
            HttpxEngineClient(httpx.MockTransport(router.async_handler)),
            UpstreamSettings.model_validate(settings),
            self._prepare_models,
            self._record_change,
            time=lambda: self.now,
        )
        self.monitor.on_failure(lambda url: self.calls.append(f"failed for {url}"))

    async def _prepare_models(self, names: object) -> None:
        if self.failures:
            raise self.failures.pop()
        self.calls.append(f"prepare {sorted(names)} while {self.replica.state}")  # type: ignore[call-overload]

    def _record_change(self) -> None:
        self.calls.append(f"changed to {self.replica.state}")


async def probe(*responses: httpx.Response | Exception) -> Fixture:
    """Probe a replica once per response to `GET /v1/models`."""
    router = respx.Router()
    router.get(URL + "/v1/models").side_effect = list(responses)
    router.post(url__startswith=URL).respond(400)
    fixture = Fixture(router)
    for _ in responses:
        await fixture.monitor.probe_all()
    return fixture


async def test_healthy() -> None:
    """Models are prepared before the replica becomes healthy, and the change is reported after."""
    fixture = await probe(httpx.Response(200, json=MODELS))
    replica = fixture.replica
    assert (replica.state, replica.models) == ("healthy", {"small": EngineModel("small", 1, 100)})
    assert fixture.calls == ["prepare ['small'] while unknown", "changed to healthy"]


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (httpx.ConnectError("x"), "no connection"),
        (httpx.ConnectTimeout("slow"), "no connection in time"),
        (httpx.ReadTimeout("slow"), "no response in time"),
        (httpx.RemoteProtocolError("bye"), "connection closed"),
        (httpx.Response(500), "responded with 500 to GET /v1/models"),
        (
            httpx.Response(401),
            "responded with 401 to GET /v1/models: credentials are missing or wrong",
        ),
        (
            httpx.Response(404),
            "responded with 404 to GET /v1/models: not an OpenAI-compatible server",
        ),
        (httpx.Response(200, text="<html>"), INVALID_LIST),
        (httpx.Response(200, json=[]), INVALID_LIST),
        (httpx.Response(200, json={"data": 1}), INVALID_LIST),
        (httpx.Response(200, json={"data": [{}]}), INVALID_LIST),
        (httpx.Response(200, json={"data": ["small"]}), INVALID_LIST),
        (httpx.Response(200, json={"data": [{"id": 1, "created": 1}]}), INVALID_LIST),
        (httpx.Response(200, json={"data": [{"id": "a", "created": "x"}]}), INVALID_LIST),
        (
            httpx.Response(200, json={"data": [{"id": "a", "created": 1, "max_model_len": "x"}]}),
            INVALID_LIST,
        ),
    ],
)
async def test_unreachable(response: httpx.Response | Exception, reason: str) -> None:
    """Any other response makes a new replica unreachable, with the reason."""
    replica = (await probe(response)).replica
    assert (replica.state, replica.error) == ("unreachable", reason)


@pytest.mark.parametrize(
    ("entry", "model"),
    [
        ({"id": "a", "owned_by": "vllm", "max_model_len": 9}, EngineModel("a", 0, 9, "vLLM")),
        ({"id": "a", "owned_by": "llamacpp", "created": 3}, EngineModel("a", 3, None, "llama.cpp")),
        ({"id": "a", "owned_by": "library", "created": 3}, EngineModel("a", 3, None, "Ollama")),
        ({"id": "a", "owned_by": "me"}, EngineModel("a", 0, None, "llama-cpp-python")),
        ({"id": "a", "owned_by": "somebody"}, EngineModel("a", 0, None, "somebody")),
    ],
)
async def test_other_engines(entry: dict[str, object], model: EngineModel) -> None:
    """The software of other engines is recognized, and a warning names it."""
    with capture_logs() as logs:
        fixture = await probe(httpx.Response(200, json={"data": [entry]}))
    assert fixture.replica.models == {"a": model}
    assert [(log["log_level"], log["event"]) for log in logs] == [
        ("info", "engine is healthy"),
        ("warning", f"the engine is {model.software}, not MAX: it formats the prompts itself"),
    ]


async def test_unknown_capabilities() -> None:
    """Capabilities that an engine was too slow to show are probed again, after a pause."""
    slow = httpx.ReadTimeout("slow")
    router = respx.Router()
    router.get(URL + "/v1/models").respond(json=MODELS)
    route = router.post(url__startswith=URL).mock(side_effect=slow)
    fixture = Fixture(router)
    await fixture.monitor.probe_all()
    route.mock(return_value=httpx.Response(400))
    await fixture.monitor.probe_all()
    assert fixture.replica.capabilities == {"small": Capabilities()}
    fixture.now += 5
    await fixture.monitor.probe_all()
    found = fixture.replica.capabilities["small"]
    assert (found.grammar, found.logprobs, found.penalties) == (False, False, False)


async def test_no_models() -> None:
    """An engine without models is healthy; Ollama then lists null."""
    assert (await probe(httpx.Response(200, json={"data": None}))).replica.state == "healthy"


async def test_warnings() -> None:
    """An unreachable engine is reported once per cause within a pause, and again after a return."""
    down, broken, up = (
        httpx.ConnectError("x"),
        httpx.Response(500),
        httpx.Response(200, json=MODELS),
    )
    with capture_logs() as logs:
        await probe(down, down, broken, broken, up, up, broken, broken, broken, broken)
    assert [(log["event"], log.get("error")) for log in logs] == [
        ("engine is unreachable", "no connection"),
        ("engine is unreachable", "responded with 500 to GET /v1/models"),
        ("engine is healthy", None),
        ("engine is unreachable", "responded with 500 to GET /v1/models"),
    ]


async def test_slow_engine() -> None:
    """A healthy replica becomes unreachable after three slow probes in a row."""
    healthy, slow = httpx.Response(200, json=MODELS), httpx.ReadTimeout("slow")
    assert (await probe(healthy, slow, slow)).replica.state == "healthy"
    assert (await probe(healthy, slow, slow, healthy, slow)).replica.state == "healthy"
    assert (await probe(healthy, slow, slow, slow)).replica.state == "unreachable"


async def test_refused_connection() -> None:
    """A replica that refuses a connection is unreachable immediately and keeps its models."""
    replica = (await probe(httpx.Response(200, json=MODELS), httpx.ConnectError("refused"))).replica
    assert (replica.state, list(replica.models)) == ("unreachable", ["small"])


@pytest.mark.parametrize("failure", [AttributeError("odd"), asyncio.CancelledError()])
async def test_unexpected_errors(failure: BaseException) -> None:
    """An unexpected error in a probe is counted and shown, and the next probe recovers."""
    router = respx.Router()
    router.get(URL + "/v1/models").respond(json=MODELS)
    router.post(url__startswith=URL).respond(400)
    fixture = Fixture(router)
    replica = fixture.replica
    fixture.failures.append(failure)
    await fixture.monitor.probe_all()
    assert (replica.state, replica.error, replica.watch_failures) == (
        "unreachable",
        f"probe failed: {type(failure).__name__}",
        1,
    )
    assert fixture.calls == [f"failed for {URL}"]
    await fixture.monitor.probe_all()
    assert (replica.state, replica.error, replica.watch_failures) == ("healthy", None, 1)


async def test_watch_continues() -> None:
    """The watch of a replica goes on after an unexpected error."""
    router = respx.Router()
    router.get(URL + "/v1/models").respond(json=MODELS)
    router.post(url__startswith=URL).respond(400)
    fixture = Fixture(router, unhealthy_probe_interval=0.001)
    fixture.failures += [RuntimeError("odd"), RuntimeError("odd")]
    running = asyncio.create_task(fixture.monitor.run())

    async def is_healthy() -> bool:
        return fixture.replica.state == "healthy"

    await until(is_healthy)
    running.cancel()
    await asyncio.wait([running])
    assert (running.cancelled(), fixture.replica.watch_failures) == (True, 2)
