"""The processes that load: started once, given one level after another.

The load is never made in the process that draws progress and adds up results: that would be
measured as the server's slowness.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson

from maxgate.errors import MaxgateError
from maxgate.loadtest.client.client import ServerAway
from maxgate.loadtest.messages import Job, JobDone, Lag, Progress, Start, worst
from maxgate.results.records import Records, join, read_records

Watch = Callable[[Progress], None]


class WorkerDied(MaxgateError):
    """A process of the load ended by itself; its own words are above."""


def tell(worker: asyncio.subprocess.Process, line: str) -> None:
    """One line to the process."""
    assert worker.stdin is not None  # noqa: S101  # it was asked for
    worker.stdin.write(line.encode() + b"\n")


async def _hear(worker: asyncio.subprocess.Process) -> bytes:
    assert worker.stdout is not None  # noqa: S101  # it was asked for
    line = await worker.stdout.readline()
    if not line:
        raise WorkerDied("a process of the load has died")
    return line


async def order(worker: asyncio.subprocess.Process, job: Job) -> JobDone | None:
    """None when it is ready; else why it cannot be."""
    tell(worker, job.model_dump_json())
    line = await _hear(worker)
    return None if b'"ready"' in line else JobDone.model_validate_json(line)


async def listen(
    worker: asyncio.subprocess.Process, latest: list[Progress], number: int, watch: Watch
) -> JobDone:
    """Keep its latest progress, and tell `watch` of all together, until it is done."""
    while True:
        said = orjson.loads(await _hear(worker))
        if "done" in said:
            return JobDone.model_validate(said)
        latest[number] = Progress.model_validate(said)
        watch(total(latest))


def total(progress: Sequence[Progress]) -> Progress:
    """All processes together."""
    return Progress(
        started=sum(one.started for one in progress),
        succeeded=sum(one.succeeded for one in progress),
        failed=sum(one.failed for one in progress),
        in_flight=sum(one.in_flight for one in progress),
        chunks=sum(one.chunks for one in progress),
    )


_HEAD_START = 0.05  # seconds from the order to the first departure, for all to have it


@dataclass(frozen=True)
class Outcome:
    """What one level brought."""

    records: Records
    cpu: float
    """Of one core, the busiest process."""
    server: str | None
    wall: float
    lag: Lag
    """The latest process's."""


class Fleet:
    """So many processes; `run` gives each its share of one level."""

    def __init__(self, workers: Sequence[asyncio.subprocess.Process], folder: Path) -> None:
        self._workers, self._folder = workers, folder
        self._running = False

    async def run(self, job: Job, watch: Watch, *, start: float | None = None) -> Outcome:
        """One level; `shard`, `shards`, `start` and `records` of the job are filled in here.

        The job's own shard is kept when there is more than one machine: each process then takes
        its part of that part. Raises ServerAway where nobody answers.
        """
        count = len(self._workers)
        began = time.perf_counter()
        latest: list[Progress] = [Progress() for _ in self._workers]
        jobs = [
            job.model_copy(
                update={
                    "shard": job.shard + job.shards * number,
                    "shards": job.shards * count,
                    "records": str(self._folder / f"{number}.npz"),
                }
            )
            for number in range(count)
        ]
        self._running = True
        try:
            ready = await asyncio.gather(*map(order, self._workers, jobs))
            self._start(ready, start)
            done = await asyncio.gather(
                *(
                    listen(worker, latest, number, watch)
                    for number, worker in enumerate(self._workers)
                )
            )
        finally:
            self._running = False
        parts = [read_records(Path(mine.records))[0] for mine in jobs]
        server = next((one.server for one in done if one.server), None)
        wall = time.perf_counter() - began
        lag = worst([one.lag for one in done])
        return Outcome(join(parts), max(one.cpu for one in done), server, wall, lag)

    def stop(self) -> None:
        """End the present level in good order."""
        for worker in self._workers:
            if self._running and worker.stdin is not None:
                worker.stdin.write(b"stop\n")

    def _start(self, ready: Sequence[JobDone | None], start: float | None) -> None:
        when = Start(start=time.perf_counter() + _HEAD_START if start is None else start)
        for worker, done in zip(self._workers, ready, strict=True):
            if done is None:
                tell(worker, when.model_dump_json())
        failure = next((done.failure for done in ready if done is not None), None)
        if failure is not None:
            raise ServerAway(failure)


@asynccontextmanager
async def fleet_of(count: int) -> AsyncIterator[Fleet]:
    """So many processes; they end with the block, and also when this process dies."""
    with tempfile.TemporaryDirectory(prefix="load-test-") as folder:
        workers = [await _start() for _ in range(count)]
        try:
            yield Fleet(workers, Path(folder))
        finally:
            for worker in workers:
                if worker.stdin is not None:
                    worker.stdin.close()
            await asyncio.gather(*(worker.wait() for worker in workers))


async def _start() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "maxgate.loadtest.worker",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
