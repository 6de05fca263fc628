"""So many a second."""

import asyncio
import time
from collections.abc import Sequence

from maxgate.loadtest.arrivals import departures, order_of_sides
from maxgate.loadtest.client.client import Client
from maxgate.loadtest.client.timing import alarm
from maxgate.loadtest.closed_loop import ClosedLoop
from maxgate.loadtest.load_generator import Runner
from maxgate.loadtest.messages import Job
from maxgate.loadtest.scenarios.requests import RequestSource


class OpenLoop(Runner):
    """Departures at set times, whatever the server does."""

    def plan(self, offsets: Sequence[float]) -> None:
        """The departures of all processes, in seconds from the start, rising."""
        self._offsets = offsets
        self._position = self.job.shard
        self._alarm = alarm(self._loop, self._depart, self._monotonic)

    def _begin(self) -> None:
        self._set_alarm()

    def stop(self, grace: float | None = None) -> None:
        """See Runner."""
        self._alarm.close()
        super().stop(grace)

    def cut(self) -> None:
        """See Runner."""
        self._alarm.close()
        super().cut()

    def _set_alarm(self) -> None:
        if self._position < len(self._offsets):
            self._alarm.set(self.job.start + self._offsets[self._position])
        else:
            self.stop()

    def _depart(self) -> None:
        now = self._monotonic()
        while self._position < len(self._offsets):
            due = self.job.start + self._offsets[self._position]
            if due > now:
                break
            index, place = divmod(self._position, len(self._clients))
            sides = order_of_sides(index, len(self._clients), seed=self.job.requests.seed)
            self._converse(index, [sides[place]], due, warmup=self._position < self.job.load.warmup)
            self._position += self.job.shards
        self._set_alarm()

    def _conversation_over(self, ended: float) -> None:
        """Nothing follows from an answer."""


def loop_of(
    job: Job,
    clients: list[Client],
    source: RequestSource,
    arrivals: Sequence[float] | None,
    loop: asyncio.AbstractEventLoop,
) -> Runner:
    """Ready to run; `arrivals` are the times of a trace."""
    if job.load.kind == "closed":
        closed = ClosedLoop(job, clients, source, loop=loop, monotonic=time.perf_counter)
        closed.prepare()
        return closed
    runner = OpenLoop(job, clients, source, loop=loop, monotonic=time.perf_counter)
    load, sides = job.load, len(clients)
    if load.kind == "replay":
        offsets = [offset / load.speed for offset in arrivals or () for _ in range(sides)]
    else:
        count = None if load.requests is None else (load.requests + load.warmup) * sides
        offsets = departures(
            load.arrivals,
            load.rate * sides,
            count=count,
            duration=load.duration,
            seed=job.requests.seed,
        ).tolist()
    runner.plan(offsets)
    return runner
