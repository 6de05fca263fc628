"""What is said between the fleet and one of its processes: lines of JSON, both ways."""

import asyncio
from collections.abc import Callable, Sequence

import orjson

from maxgate.errors import MaxgateError
from maxgate.tools.loadtest.job import Job, JobDone, Progress

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
