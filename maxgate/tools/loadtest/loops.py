"""A job's kind of load to what drives it."""

import asyncio
import time
from collections.abc import Sequence

from maxgate.tools.loadtest.client.client import Client
from maxgate.tools.loadtest.closed_loop import ClosedLoop
from maxgate.tools.loadtest.job import Job
from maxgate.tools.loadtest.open_loop import OpenLoop
from maxgate.tools.loadtest.runner import Runner
from maxgate.tools.loadtest.scenarios.requests import RequestSource
from maxgate.tools.loadtest.schedule import departures


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
