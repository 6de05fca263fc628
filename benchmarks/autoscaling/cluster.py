"""A model of gateway and engines: requests, their queue, and engines that need time to load."""

import math
import random
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Final

from benchmarks.autoscaling.prometheus import STALE, Labels
from maxgate.telemetry.histogram import STEPS_PER_OCTAVE, upper_bound

NAMESPACE: Final = ("namespace", "maxgate")
BOUNDS: Final = [
    upper_bound(step)
    for step in range(4 * STEPS_PER_OCTAVE, 21 * STEPS_PER_OCTAVE, STEPS_PER_OCTAVE)
]
"""Of maxgate_queue_duration_seconds; the last ones are those that held requests reach."""


@dataclass
class Engine:
    """An engine: it is ready at a time, and works on `running` requests."""

    number: int
    ready_at: float
    running: int = 0


@dataclass
class Cluster:
    """Requests arrive at `rate(t)` per second and take `duration` seconds once they have a slot.

    Engines have `batch` slots each. A new one is ready after `load_time`. The last ones are removed
    first, and their requests run to their end. Up to four requests per slot wait, and others are
    refused.
    """

    model: str
    rate: Callable[[float], float]
    batch: int = 32
    load_time: float = 120.0
    duration: float = 12.0
    seed: int = 1
    engines: list[Engine] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    refused: int = 0
    engine_seconds: float = 0.0

    def __post_init__(self) -> None:
        """Start without requests."""
        self._random = random.Random(self.seed)
        self._queue: deque[float] = deque()
        self._ends: list[tuple[float, int, Engine]] = []
        self._started = 0
        self._buckets = [0] * (len(BOUNDS) + 1)
        self._known: set[Labels] = set()

    def scale(self, now: float, replicas: int) -> None:
        """Start or stop engines."""
        while len(self.engines) < replicas:
            self.engines.append(Engine(len(self.engines), now + self.load_time))
        del self.engines[replicas:]

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    def count_ready(self, now: float) -> int:
        """Return the number of engines that serve."""
        return sum(engine.ready_at <= now for engine in self.engines)

    def advance(self, now: float, seconds: float) -> None:
        """Simulate the time from `now` on."""
        self.engine_seconds += len(self.engines) * seconds
        step = 0.5
        for index in range(round(seconds / step)):
            at = now + index * step
            for _ in range(self._draw(self.rate(at) * step)):
                self._arrive(at)
            while self._ends and self._ends[0][0] <= at:
                heappop(self._ends)[2].running -= 1
            self._dispatch(at)

    def _draw(self, mean: float) -> int:
        """Return a number of arrivals, by Poisson's distribution."""
        limit, product, count = math.exp(-mean), self._random.random(), 0
        while product > limit:
            product *= self._random.random()
            count += 1
        return count

    def _arrive(self, at: float) -> None:
        if len(self._queue) >= 4 * self.batch * max(self.count_ready(at), 1):
            self.refused += 1
        else:
            self._queue.append(at)

    def _dispatch(self, at: float) -> None:
        free = [e for e in self.engines if e.ready_at <= at and e.running < self.batch]
        while self._queue and free:
            engine = min(free, key=lambda one: one.running)
            wait = at - self._queue.popleft()
            self.waits.append(wait)
            self._buckets[bisect_left(BOUNDS, wait)] += 1
            engine.running += 1
            self._started += 1
            length = self.duration * self._random.uniform(0.5, 1.5)
            heappush(self._ends, (at + length, self._started, engine))
            free = [one for one in free if one.running < self.batch]

    def measure(self, now: float) -> dict[Labels, float]:
        """Return what a scrape of the gateway has, with its names and labels.

        Series that were in an earlier scrape and are gone are stale.
        """
        model = NAMESPACE, ("model", self.model)
        samples: dict[Labels, float] = {(("__name__", "maxgate_workers"), NAMESPACE): 1}
        samples[("__name__", "maxgate_queue_length"), *model, ("class", "default")] = self.waiting
        samples[("__name__", "maxgate_slots_in_use"), *model] = len(self._ends)
        name, total = ("__name__", "maxgate_queue_duration_seconds_bucket"), 0
        for bound, count in zip([*BOUNDS, math.inf], self._buckets, strict=True):
            total += count
            le = "+Inf" if bound == math.inf else f"{bound:.12g}"
            samples[name, *model, ("le", le)] = total
        for engine in self.engines:
            if engine.ready_at <= now:
                url = ("engine", f"http://10.0.0.{engine.number}:8000")
                samples[("__name__", "maxgate_engine_up"), NAMESPACE, url] = 1
        gone = dict.fromkeys(self._known - samples.keys(), STALE)
        self._known = set(samples)
        return samples | gone

    def lose(self) -> dict[Labels, float]:
        """Return what a failed scrape leaves: the end of every series."""
        gone = dict.fromkeys(self._known, STALE)
        self._known = set()
        return gone
