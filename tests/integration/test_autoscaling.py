"""The queries of the manifests in a real Prometheus, and the decisions that follow from them."""

import asyncio
import copy
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.autoscaling.prometheus import INSTALL, PROGRAM, Labels, Prometheus, start_prometheus
from benchmarks.autoscaling.scenarios import SCENARIOS, Outcome, Scenario, ramp, run
from tests.fakes.manifests import find
from tests.fakes.platform import MODEL, Platform, start

pytestmark = pytest.mark.skipif(
    shutil.which(PROGRAM) is None, reason=f"needs prometheus: {INSTALL}"
)

PATHS = ("/metrics", "/metrics/vllm")


class Timeline:
    """A Prometheus whose simulations follow each other, the last one before now."""

    def __init__(self, prometheus: Prometheus) -> None:
        self.prometheus = prometheus
        self._next = (time.time() - 6 * 3600) // 60 * 60

    def run(self, scenario: Scenario, spec: dict[str, Any]) -> Outcome:
        """Simulate a scenario of at most 45 minutes."""
        begin, self._next = self._next, self._next + 3600
        return run(scenario, spec, self.prometheus, begin)


@pytest.fixture(scope="module")
def timeline() -> Iterator[Timeline]:
    """A Prometheus for all tests."""
    with start_prometheus() as prometheus:
        yield Timeline(prometheus)


def read_spec(overlay: str = "production") -> dict[str, Any]:
    """Return the ScaledObject of the engines."""
    spec: dict[str, Any] = copy.deepcopy(find(overlay, "ScaledObject", "max")["spec"])
    return spec


def test_from_zero(timeline: Timeline) -> None:
    """A held request starts an engine within a polling interval, and an idle one is stopped."""
    scenario = Scenario(
        "short",
        "staging",
        30,
        ramp([(0, 0), (1, 0), (1.01, 0.1), (4, 0.1), (4.01, 0)]),
        engines=0,
        max_wait=150,
    )
    outcome = timeline.run(scenario, read_spec("staging"))
    numbers = [number for _, number in outcome.changes]
    assert (numbers, outcome.is_right) == ([1, 0], True)
    assert outcome.changes[0][0] <= 120
    assert outcome.changes[1][0] >= 240 + 900


def test_lost_scrapes(timeline: Timeline) -> None:
    """While gateways are not scraped, no engine is stopped; without the fallback, a zero would."""
    scenario = replace(SCENARIOS[3], minutes=20, rate=ramp([(0, 8), (20, 8)]), lost=(120, 1200))
    broken = read_spec()
    for trigger in broken["triggers"]:  # a query that is never empty
        trigger["metadata"]["query"] = f"({trigger['metadata']['query']}) or vector(0)"
    kept, dropped = timeline.run(scenario, read_spec()), timeline.run(scenario, broken)
    assert min([4, *(number for _, number in kept.changes)]) == 4
    assert min(number for _, number in dropped.changes) < 4


def test_finds_flapping(timeline: Timeline) -> None:
    """Without stabilisation, a load that swings is found to start and stop engines in vain."""
    spec = read_spec()
    down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    down["stabilizationWindowSeconds"] = 0
    scenario = replace(SCENARIOS[2], minutes=14)
    steady, flapping = timeline.run(scenario, read_spec()), timeline.run(scenario, spec)
    assert steady.count_changes()[2] == 0
    assert flapping.count_changes()[2] > 0


async def scrape(platform: Platform) -> dict[Labels, float]:
    """Return the samples of a gateway, with the label that the Prometheus operator adds."""
    client, headers = platform.gateway.client, {"accept": "text/plain"}
    texts = [(await client.get(path, headers=headers)).text for path in PATHS]
    return {
        (("__name__", sample.name), ("namespace", "maxgate"), *sample.labels.items()): sample.value
        for text in texts
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_queries_of_gateway(timeline: Timeline) -> None:
    """The queries, and one for vLLM, read a real gateway: idle, with held requests, and in use."""
    prometheus, now, values = timeline.prometheus, time.time() - 60, []
    queries = [
        one["metadata"]["query"].replace("llama-3.3-8b-instruct", MODEL)
        for one in read_spec()["triggers"]
    ] + [f'sum(vllm:num_requests_waiting{{model_name="{MODEL}"}})']

    async def read(platform: Platform, at: float) -> None:
        prometheus.write(at, await scrape(platform))
        values.append([prometheus.query(query, at) for query in queries])

    assert [prometheus.query(query, now) for query in queries] == [None] * 3
    async with start(swap={"scale_up_time": 120}) as platform:
        await read(platform, now)
        chats = [asyncio.create_task(platform.gateway.chat()) for _ in range(3)]
        await platform.wait_for_queue(3)
        await read(platform, now + 1)
        platform.scale(1)
        await asyncio.gather(*chats)
        await platform.wait_for_queue(0)
        await read(platform, now + 2)
    assert values == [[0, 0, 0], [3, 0, 3], [0, 0, 0]]
