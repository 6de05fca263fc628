"""Load curves, and what the autoscaler makes of them."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from benchmarks.autoscaling.autoscaler import SYNC, ScaledObject
from benchmarks.autoscaling.cluster import Cluster
from benchmarks.autoscaling.prometheus import Prometheus

SCRAPE: Final = 10
STEP: Final = 5
FLAP: Final = 900.0
"""A scale-out within this time after a scale-in is a flap: the engine was stopped in vain."""


@dataclass(frozen=True)
class Scenario:
    """A load curve in requests per second over time in seconds; scrapes fail during `lost`.

    The manifest is that of an overlay. At most `max_wait` seconds and `max_refused` requests are
    right.
    """

    name: str
    overlay: str
    minutes: int
    rate: Callable[[float], float]
    engines: int
    max_wait: float
    lost: tuple[float, float] = (0, 0)
    max_refused: int = 0


@dataclass
class Outcome:
    """The outcome; `changes` are times in seconds, and the number of engines from then on."""

    scenario: Scenario
    cluster: Cluster
    changes: list[tuple[float, int]] = field(default_factory=list)

    @property
    def peak(self) -> int:
        """Maximum number of engines."""
        return max((n for _, n in self.changes), default=self.scenario.engines)

    def count_changes(self) -> tuple[int, int, int]:
        """Return scale-outs, scale-ins and flaps."""
        outs = ins = flaps = 0
        before, last_in = self.scenario.engines, -math.inf
        for at, number in self.changes:
            if number > before:
                outs += 1
                flaps += at - last_in < FLAP
            else:
                ins += 1
                last_in = at
            before = number
        return outs, ins, flaps

    def find_wait(self, share: float) -> float:
        """Return a quantile of the waits in seconds."""
        waits = sorted(self.cluster.waits)
        return waits[min(round(share * len(waits)), len(waits) - 1)]

    @property
    def is_right(self) -> bool:
        """Whether nothing flapped, waits and refusals are in bounds, and nobody waits."""
        return (
            self.count_changes()[2] == 0
            and self.find_wait(1) <= self.scenario.max_wait
            and self.cluster.refused <= self.scenario.max_refused
            and self.cluster.waiting == 0
        )


def run(scenario: Scenario, spec: dict[str, Any], prometheus: Prometheus, start: float) -> Outcome:
    """Simulate a scenario from `start` on with the ScaledObject's `spec`."""
    clock = start
    cluster = Cluster("llama-3.3-8b-instruct", lambda at: scenario.rate(at - start))
    cluster.scale(start - cluster.load_time, scenario.engines)
    scaler = ScaledObject(spec, lambda query: prometheus.query(query, clock))
    if scaler.polling != SYNC:
        raise ValueError(f"pollingInterval {scaler.polling} is not simulated")
    outcome = Outcome(scenario, cluster)
    for second in range(0, scenario.minutes * 60, STEP):
        clock = start + second
        cluster.advance(clock, STEP)
        if second % SCRAPE == 0:
            is_lost = scenario.lost[0] <= second < scenario.lost[1]
            samples = cluster.lose() if is_lost else cluster.measure(clock)
            if samples:
                prometheus.write(clock, samples)
        if second % SYNC == 0:
            before = len(cluster.engines)
            wanted = scaler.decide(clock, before)
            if wanted != before:
                cluster.scale(clock, wanted)
                outcome.changes.append((float(second), wanted))
    return outcome


def ramp(points: list[tuple[float, float]]) -> Callable[[float], float]:
    """Return the curve through points of minutes and requests per second."""

    def rate(seconds: float) -> float:
        minutes = seconds / 60
        for (left, low), (right, high) in pairwise(points):
            if left <= minutes < right:
                return low + (high - low) * (minutes - left) / (right - left)
        return points[-1][1]

    return rate


def swing(seconds: float) -> float:
    """A load that goes up and down by a third every four minutes, around what two engines take."""
    return 4 + 1.3 * math.sin(seconds / 240 * 2 * math.pi)


SCENARIOS: Final = (
    Scenario(
        "working day, compressed",
        "production",
        180,
        ramp([(0, 1), (20, 1), (70, 12), (110, 12), (150, 1), (180, 0)]),
        engines=2,
        max_wait=60,
    ),
    Scenario(
        "six times the load for 10 minutes",
        "production",
        75,
        ramp([(0, 2), (10, 2), (11, 12), (21, 12), (22, 2), (70, 2), (72, 0)]),
        engines=2,
        max_wait=120,
        max_refused=3000,
    ),
    Scenario("load that swings", "production", 90, swing, engines=2, max_wait=60),
    Scenario(
        "no scrape for 10 minutes",
        "production",
        60,
        ramp([(0, 8), (55, 8), (56, 0)]),
        engines=4,
        max_wait=20,
        lost=(1200, 1800),
    ),
    Scenario(
        "from zero, and back",
        "staging",
        105,
        # A first request and few others, and after an hour twice what the queue can hold.
        ramp(
            [
                *[(0, 0), (5, 0), (5.01, 0.3), (20, 0.3), (20.01, 0)],
                *[(65, 0), (65.01, 4), (70, 4), (70.01, 0)],
            ]
        ),
        engines=0,
        max_wait=180,
        max_refused=500,
    ),
)
