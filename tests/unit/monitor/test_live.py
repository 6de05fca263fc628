"""Looks come at their times, and what they say of a gateway is what happened there."""

from contextlib import aclosing
from typing import cast

import httpx

from maxgate.monitor.http_sources import GatewaySource
from maxgate.monitor.metrics import numbers
from maxgate.monitor.sampler import Sampler, live
from maxgate.monitor.snapshot import Snapshot
from tests.fakes.clock import FakeClock
from tests.fakes.gateway import StartGateway
from tests.fakes.max_server import ANSWER, FakeMax, Script
from tests.unit.monitor.examples import snapshot


class SlowSampler:
    """Every look takes as long as it was told, of a clock's time."""

    def __init__(self, clock: FakeClock, takes: list[float]) -> None:
        self._clock = clock
        self._takes = takes
        self.began: list[float] = []

    async def look(self) -> Snapshot:
        """See Sampler."""
        self.began.append(self._clock.monotonic() - 1000)
        self._clock.advance(self._takes.pop(0))
        return snapshot(self.began[-1])


async def test_a_slow_look_delays_the_next_one_and_not_those_after_it() -> None:
    clock = FakeClock()
    sampler = SlowSampler(clock, [0.1, 2.5, 0.1, 0.1])

    async def sleep(seconds: float) -> None:
        clock.advance(seconds)

    async with aclosing(live(cast("Sampler", sampler), 1.0, clock, sleep)) as looks:
        for _ in range(4):
            await anext(looks)
    assert sampler.began == [0.0, 1.0, 3.5, 4.5]


async def test_two_looks_count_what_the_gateway_did_in_between(start_gateway: StartGateway) -> None:
    engine = FakeMax(scripts=[Script(), *[Script()] * 25, Script(status=500)])
    async with start_gateway(engine) as gateway, httpx.AsyncClient() as client:
        source = GatewaySource(client, gateway.url)
        await gateway.chat()
        before, _ = await source.read(0)
        for _ in range(25):
            await gateway.chat(stream=True)
        await gateway.chat()
        after, _ = await source.read(10)
    assert before is not None
    assert after is not None
    looks = [
        Snapshot(0, 0.0, before),
        # The test is over in less than ten seconds; the gateway's clock does not know.
        Snapshot(10, after.uptime - before.uptime, after),
    ]
    found = numbers(looks)
    assert (found["gateway.answers"], found["gateway.error_share"]) == (25, 1 / 26)
    assert found["gateway.output_tokens_each"] == len(ANSWER) + 1
    assert 0 < found["gateway.ttft_p95"] <= found["gateway.latency_p95"]
    assert "gateway.latency_p99" not in found


async def test_a_gateway_that_has_ended_is_away(start_gateway: StartGateway) -> None:
    async with httpx.AsyncClient() as client:
        async with start_gateway() as gateway:
            source = GatewaySource(client, gateway.url)
            assert (await source.read(0))[1] is None
        assert await source.read(1) == (None, "no connection")
