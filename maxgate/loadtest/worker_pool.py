"""The pool of worker processes, which run one level of load after another.

The process that draws progress and computes results generates no load itself: its work would be
measured as the server's latency.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import orjson

from maxgate.errors import MaxgateError
from maxgate.loadtest.client.client import ServerUnreachable
from maxgate.loadtest.messages import (
    Failure,
    Job,
    JobDone,
    Lag,
    Progress,
    Start,
    max_lag,
    sum_progress,
)
from maxgate.results.records import Records, join, read_records

ProgressCallback = Callable[[Progress], None]


class WorkerDied(MaxgateError):
    """A worker process ended unexpectedly, or could not save what it measured."""


class Worker:
    """One worker process and the lines exchanged with it; see worker.py for the other side."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None  # noqa: S101  # it is a pipe
        assert process.stdout is not None  # noqa: S101  # it is a pipe
        self._process, self._stdin, self._stdout = process, process.stdin, process.stdout

    @classmethod
    async def start(cls) -> "Worker":
        """Start the process; it also ends when this process dies, because its input closes."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "maxgate.loadtest.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        return cls(process)

    def send(self, line: str) -> None:
        """Send one line."""
        self._stdin.write(line.encode() + b"\n")

    async def receive(self) -> bytes:
        """The next line. Raises WorkerDied."""
        line = await self._stdout.readline()
        if not line:
            raise WorkerDied("a worker process of the load test died; see its output above")
        return line

    async def start_job(self, job: Job) -> JobDone | None:
        """Send the job; None if the worker is ready, otherwise the reason why it is not."""
        self.send(job.model_dump_json())
        line = await self.receive()
        return None if b'"ready"' in line else JobDone.model_validate_json(line)

    async def wait(self, on_progress: ProgressCallback) -> JobDone:
        """Report progress until the job is done."""
        while True:
            message = orjson.loads(await self.receive())
            if "done" in message:
                return JobDone.model_validate(message)
            on_progress(Progress.model_validate(message))

    async def close(self) -> None:
        """Close the worker's input and wait until the process has ended."""
        self._stdin.close()
        await self._process.wait()


_START_DELAY: Final = 0.05  # seconds from the start message to the first departure


@dataclass(frozen=True)
class Outcome:
    """The result of one level."""

    records: Records
    cpu: float
    """Share of one core used by the busiest worker."""
    server: str | None
    wall: float
    lag: Lag
    """The largest lag of any worker."""
    failures: Sequence[Failure] = ()
    """The first failure of each kind and server."""
    gave_up: bool = False
    """Whether the level ended early, because all requests to one server failed."""


class WorkerPool:
    """Splits each level over its workers."""

    def __init__(self, workers: Sequence[Worker], folder: Path) -> None:
        self._workers, self._folder = workers, folder
        self._running = False

    async def run(
        self, job: Job, on_progress: ProgressCallback, *, start: float | None = None
    ) -> Outcome:
        """Run one level; fills in `shard`, `shards`, `start` and `records` of the job.

        With several machines, the job's shard is this machine's part, which is split further.
        Raises ServerUnreachable and WorkerDied.
        """
        began = time.perf_counter()
        jobs = [self._split(job, number) for number in range(len(self._workers))]
        self._running = True
        try:
            replies = await asyncio.gather(
                *(worker.start_job(one) for worker, one in zip(self._workers, jobs, strict=True))
            )
            self._start(replies, start)
            done = await self._wait(on_progress)
            if failure := next((one.failure for one in done if one.failure is not None), None):
                raise WorkerDied(failure)
        finally:
            self._running = False
        return Outcome(
            records=join([read_records(Path(one.records))[0] for one in jobs]),
            cpu=max(one.cpu for one in done),
            server=next((one.server for one in done if one.server), None),
            wall=time.perf_counter() - began,
            lag=max_lag([one.lag for one in done]),
            failures=_keep_first([failure for one in done for failure in one.failures]),
            gave_up=any(one.gave_up for one in done),
        )

    def stop(self) -> None:
        """End the current level gracefully."""
        if self._running:
            for worker in self._workers:
                worker.send("stop")

    def _split(self, job: Job, number: int) -> Job:
        return job.model_copy(
            update={
                "shard": job.shard + job.shards * number,
                "shards": job.shards * len(self._workers),
                "records": str(self._folder / f"{number}.npz"),
            }
        )

    def _start(self, replies: Sequence[JobDone | None], start: float | None) -> None:
        message = Start(start=time.perf_counter() + _START_DELAY if start is None else start)
        for worker, reply in zip(self._workers, replies, strict=True):
            if reply is None:
                worker.send(message.model_dump_json())
        failure = next((reply.failure for reply in replies if reply is not None), None)
        if failure is not None:
            raise ServerUnreachable(failure)

    async def _wait(self, on_progress: ProgressCallback) -> list[JobDone]:
        latest = [Progress() for _ in self._workers]

        def update(number: int, progress: Progress) -> None:
            latest[number] = progress
            on_progress(sum_progress(latest))

        return await asyncio.gather(
            *(worker.wait(partial(update, number)) for number, worker in enumerate(self._workers))
        )


def _keep_first(failures: Sequence[Failure]) -> list[Failure]:
    """One failure per server and kind."""
    return list({(one.side, one.kind): one for one in reversed(failures)}.values())[::-1]


@asynccontextmanager
async def start_worker_pool(count: int) -> AsyncIterator[WorkerPool]:
    """Run `count` worker processes for the duration of the block."""
    with tempfile.TemporaryDirectory(prefix="load-test-") as folder:
        workers = [await Worker.start() for _ in range(count)]
        try:
            yield WorkerPool(workers, Path(folder))
        finally:
            await asyncio.gather(*(worker.close() for worker in workers))
