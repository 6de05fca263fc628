"""A replica is healthy while it lists its models and unreachable when it refuses connections."""

import httpx
import pytest
import respx

from maxgate.upstream.health import HealthMonitor
from maxgate.upstream.replica import EngineModel, Replica
from maxgate.upstream.settings import UpstreamSettings

URL = "http://engine:8080"
MODELS = {"data": [{"id": "small", "created": 1, "max_model_len": 100}]}


class Fixture:
    """A monitor of one endpoint, and what it told."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.replica = Replica(URL + "/")
        self.seen: list[str] = []
        self.monitor = HealthMonitor(
            [self.replica], client, UpstreamSettings(), self._before_serving, self._changed
        )

    async def _before_serving(self, names: object) -> None:
        self.seen.append(f"{sorted(names)} while {self.replica.state}")  # type: ignore[call-overload]

    def _changed(self) -> None:
        self.seen.append(self.replica.state)


async def probe(router: respx.Router, *answers: httpx.Response | Exception) -> Fixture:
    router.get(URL + "/v1/models").side_effect = list(answers)
    router.post(url__startswith=URL).respond(400)
    async with httpx.AsyncClient() as client:
        fixture = Fixture(client)
        for _ in answers:
            await fixture.monitor.probe_all()
    return fixture


async def test_an_engine_that_lists_its_models_is_healthy(respx_mock: respx.Router) -> None:
    fixture = await probe(respx_mock, httpx.Response(200, json=MODELS))
    replica = fixture.replica
    assert (replica.state, replica.models) == ("healthy", {"small": EngineModel("small", 1, 100)})
    assert fixture.seen == ["['small'] while unknown", "healthy"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (httpx.ConnectError("refused"), "no connection"),
        (httpx.ReadTimeout("slow"), "no answer in time"),
        (httpx.RemoteProtocolError("bye"), "hung up"),
        (httpx.Response(500), "answered 500"),
        (httpx.Response(200, text="<html>"), "its list of models could not be read"),
        (httpx.Response(200, json={"data": [{}]}), "its list of models could not be read"),
    ],
)
async def test_any_other_answer_is_not(
    respx_mock: respx.Router, answer: httpx.Response | Exception, reason: str
) -> None:
    replica = (await probe(respx_mock, answer)).replica
    assert (replica.state, replica.error) == ("unreachable", reason)


async def test_an_engine_that_is_slow_to_answer_three_times_is_down(
    respx_mock: respx.Router,
) -> None:
    well, slow = httpx.Response(200, json=MODELS), httpx.ReadTimeout("slow")
    assert (await probe(respx_mock, well, slow, slow)).replica.state == "healthy"
    assert (await probe(respx_mock, well, slow, slow, slow)).replica.state == "unreachable"


async def test_an_engine_that_refuses_connections_is_down_at_once(
    respx_mock: respx.Router,
) -> None:
    replica = (
        await probe(respx_mock, httpx.Response(200, json=MODELS), httpx.ConnectError("refused"))
    ).replica
    assert (replica.state, list(replica.models)) == ("unreachable", ["small"])
