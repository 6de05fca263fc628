"""A replica is healthy while it lists its models, and unreachable if it refuses connections."""

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

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

    def __init__(
        self,
        router: "respx.Router | FailingEngine",
        *,
        starts_engines: bool = False,
        **settings: float,
    ) -> None:
        handler = router.async_handler if isinstance(router, respx.Router) else router.handle
        self.replica = Replica(URL + "/")
        self.calls: list[str] = []
        self.failures: list[BaseException] = []
        self.now = 1000.0
        self.monitor = HealthMonitor(
            [self.replica],
            HttpxEngineClient(httpx.MockTransport(handler)),
            UpstreamSettings.model_validate(settings),
            self._prepare_models,
            self._record_change,
            starts_engines=starts_engines,
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
        await fixture.monitor.probe(fixture.replica)
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
    await fixture.monitor.probe(fixture.replica)
    route.mock(return_value=httpx.Response(400))
    await fixture.monitor.probe(fixture.replica)
    assert fixture.replica.capabilities == {"small": Capabilities()}
    fixture.now += 5
    await fixture.monitor.probe(fixture.replica)
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
    await fixture.monitor.probe(fixture.replica)
    assert (replica.state, replica.error, replica.watch_failures) == (
        "unreachable",
        f"probe failed: {type(failure).__name__}",
        1,
    )
    assert fixture.calls == [f"failed for {URL}"]
    await fixture.monitor.probe(fixture.replica)
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


NO_DESCRIPTOR = OSError(errno.EMFILE, "Too many open files")


class FailingEngine:
    """An engine to which some requests cannot be sent, by default for lack of a descriptor."""

    def __init__(self, *failing: str, cause: OSError = NO_DESCRIPTOR) -> None:
        self.failing = failing
        """HTTP methods."""
        self.cause = cause

    async def handle(self, request: httpx.Request) -> httpx.Response:
        """Respond to one request."""
        if request.method in self.failing:
            raise httpx.ConnectError("All connection attempts failed") from self.cause
        return httpx.Response(200, json=MODELS) if request.method == "GET" else httpx.Response(400)


async def test_lack_of_descriptors() -> None:
    """Probes that fail for lack of descriptors say nothing about the engine."""
    engine = FailingEngine()
    fixture = Fixture(engine)
    await fixture.monitor.probe(fixture.replica)
    engine.failing = ("GET",)
    for _ in range(5):
        await fixture.monitor.probe(fixture.replica)
    new = Fixture(engine)
    await new.monitor.probe(new.replica)
    assert [
        (f.replica.state, f.replica.error, f.replica.watch_failures) for f in (fixture, new)
    ] == [
        (state, "The gateway is out of file descriptors. Try again shortly.", 0)
        for state in ("healthy", "unknown")
    ]


async def test_starting_engine() -> None:
    """An engine that the gateway starts is reported as unreachable only after it was healthy."""
    engine = FailingEngine("GET", cause=ConnectionRefusedError(errno.ECONNREFUSED, "refused"))
    fixture = Fixture(engine, starts_engines=True)
    with capture_logs() as logs:
        for failing in (("GET",), ("GET",), (), ("GET",), ("GET",)):
            engine.failing = failing
            await fixture.monitor.probe(fixture.replica)
    assert [(log["event"], log["log_level"]) for log in logs] == [
        ("waiting for the engine to start", "info"),
        ("engine is healthy", "info"),
        ("engine is unreachable", "warning"),
    ]


async def test_lack_of_descriptors_during_preparation() -> None:
    """So do probes during which a tokenizer or a capability probe finds no descriptor."""
    engine = FailingEngine("POST")
    fixture = Fixture(engine)
    fixture.failures.append(NO_DESCRIPTOR)
    for _ in range(2):
        await fixture.monitor.probe(fixture.replica)
        assert (fixture.replica.state, fixture.replica.watch_failures) == ("unknown", 0)
    engine.failing = ()
    await fixture.monitor.probe(fixture.replica)
    assert fixture.replica.state == "healthy"
    assert fixture.replica.capabilities["small"].grammar is False


async def test_slow_engine_that_responds() -> None:
    """An engine that responds to requests stays healthy, however slow its probes are."""
    router = respx.Router()
    router.get(URL + "/v1/models").respond(json=MODELS)
    router.post(url__startswith=URL).respond(400)
    fixture = Fixture(router)
    await fixture.monitor.probe(fixture.replica)
    router.get(URL + "/v1/models").side_effect = httpx.ReadTimeout("slow")
    fixture.replica.activity.at = asyncio.get_running_loop().time()
    for _ in range(5):
        await fixture.monitor.probe(fixture.replica)
    assert fixture.replica.state == "healthy"


class SilentCapabilities:
    """Engines that list their models at once and leave capability probes of some unanswered."""

    def __init__(self, *silent: str) -> None:
        self._silent = silent
        self.released = asyncio.Event()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        """Respond to one request."""
        if request.method == "GET":
            return httpx.Response(200, json=MODELS)
        if request.url.host in self._silent:
            await self.released.wait()
        return httpx.Response(200, json={"choices": []})


@asynccontextmanager
async def running(
    engines: SilentCapabilities, *hosts: str, **settings: float
) -> AsyncIterator[tuple[HealthMonitor, list[Replica]]]:
    """Run a monitor of engines with these host names."""
    replicas = [Replica(f"http://{host}") for host in hosts]

    async def prepare(names: object) -> None:
        """Prepare nothing."""

    monitor = HealthMonitor(
        replicas,
        HttpxEngineClient(httpx.MockTransport(engines)),
        UpstreamSettings.model_validate(settings),
        prepare,
        lambda: None,
    )
    task = asyncio.create_task(monitor.run())
    try:
        yield monitor, replicas
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_start_beside_a_silent_engine() -> None:
    """The start waits two seconds for an engine that is silent while another one is healthy."""
    engines = SilentCapabilities("silent")
    async with running(engines, "quick", "silent", probe_timeout=30) as (monitor, replicas):
        began = asyncio.get_running_loop().time()
        await monitor.wait_for_start()
        assert asyncio.get_running_loop().time() - began < 10
        assert [replica.state for replica in replicas] == ["healthy", "unknown"]


async def test_start_with_a_silent_engine() -> None:
    """An engine that lists models is served although its capabilities are not known yet."""
    engines = SilentCapabilities("silent")
    async with running(engines, "silent", probe_timeout=0.05) as (monitor, [replica]):
        await monitor.wait_for_start()
        assert (replica.state, replica.capabilities) == ("healthy", {})
        engines.released.set()

        async def is_known() -> bool:
            return "small" in replica.capabilities

        await until(is_known)
    assert replica.capabilities["small"].grammar is True


async def test_start() -> None:
    """The start waits for all engines that respond, and not at all without any."""
    async with running(SilentCapabilities(), "a", "b") as (monitor, replicas):
        await monitor.wait_for_start()
        assert [replica.state for replica in replicas] == ["healthy", "healthy"]
    async with running(SilentCapabilities()) as (monitor, _):
        await monitor.wait_for_start()


async def test_failing_report() -> None:
    """The watch of a replica goes on although the report of its failure fails, too."""
    fixture = Fixture(FailingEngine(), unhealthy_probe_interval=0.001)
    fixture.failures += [RuntimeError("odd"), RuntimeError("odd")]
    fixture.monitor.on_failure(fixture.calls.index)
    running = asyncio.create_task(fixture.monitor.run())

    async def is_healthy() -> bool:
        return fixture.replica.state == "healthy"

    await until(is_healthy)
    running.cancel()
    await asyncio.wait([running])
    assert fixture.replica.watch_failures == 2


async def test_changed_models() -> None:
    """An engine that returns with other models is reported; one that was only restarted is not."""
    first, restarted, other = (
        httpx.Response(
            200, json={"data": [{"id": "a", "created": created, "max_model_len": length}]}
        )
        for created, length in ((1, 100), (2, 100), (3, 50))
    )
    with capture_logs() as logs:
        await probe(first, restarted, other)
    assert [log for log in logs if log["event"] == "engine has changed its models"] == [
        {
            "engine": URL,
            "before": ["a (MAX, context 100)"],
            "after": ["a (MAX, context 50)"],
            "event": "engine has changed its models",
            "log_level": "warning",
        }
    ]
