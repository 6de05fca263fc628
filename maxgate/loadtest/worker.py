"""A worker process of the load test: `python -m maxgate.loadtest.worker`.

It reads jobs from standard input as JSON lines and replies on standard output. The line `stop` ends
the current job gracefully; the end of the input ends the process.
"""

import asyncio
import gc
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import orjson
import uvloop
from pydantic import BaseModel

from maxgate.errors import MaxgateError
from maxgate.loadtest.arrivals import plan_departures, plan_replay, split_evenly
from maxgate.loadtest.client.address import Trust
from maxgate.loadtest.client.client import Client
from maxgate.loadtest.client.limits import raise_file_limit
from maxgate.loadtest.client.request_record import build_records
from maxgate.loadtest.client.timing import LagProbe
from maxgate.loadtest.closed_loop import ClosedLoop
from maxgate.loadtest.load_generator import GRACE_AFTER_STOP, LoadGenerator
from maxgate.loadtest.messages import Job, JobDone, Lag, Ready, Start
from maxgate.loadtest.open_loop import OpenLoop
from maxgate.loadtest.scenarios.files import load_scenario
from maxgate.loadtest.scenarios.requests import RequestSource
from maxgate.net.server_url import parse_server_url
from maxgate.results.records import write_records

_PROGRESS_INTERVAL: Final = 0.5


def main() -> None:
    """Run jobs until the input ends."""
    # A terminal's Ctrl-C reaches workers too; the parent process tells them when to stop.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise_file_limit()
    uvloop.run(run_jobs())


async def run_jobs() -> None:
    """Run the jobs on standard input in sequence."""
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=2**26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        if line.strip() == b"stop" or b'"start"' in line[:10]:
            continue  # meant for the previous job
        job = Job.model_validate_json(line)
        try:
            reply = await _run_job(job, lines)
        except MaxgateError as error:
            reply = JobDone(cpu=0, server=None, failure=str(error))
        _send(reply)


async def _run_job(job: Job, lines: asyncio.StreamReader) -> JobDone:
    loop = asyncio.get_running_loop()
    scenario = load_scenario(job.requests)
    source = RequestSource(job.requests, scenario)
    clients = [
        Client(
            parse_server_url(target.url),
            target.headers,
            Trust(target.cacert, target.insecure),
            loop=loop,
            monotonic=time.perf_counter,
            run_id=f"{job.run_id}-{side}",
        )
        for side, target in enumerate(job.targets)
    ]
    try:
        await _open_connections(job, clients)
        _send(Ready())
        job.start = Start.model_validate_json(await lines.readline()).start
        generator = _create_load_generator(job, clients, source, scenario.arrivals)
        cpu, lag = await _run_with_progress(generator, lines)
    finally:
        for client in clients:
            await client.close()
    records = build_records(generator.request_records, start=job.start, worker=job.shard)
    await asyncio.to_thread(write_records, [records], Path(job.records))
    server = next((client.server for client in clients if client.server), None)
    return JobDone(
        cpu=cpu,
        server=server.decode(errors="replace") if server else None,
        lag=lag,
        failures=generator.failures,
        gave_up=generator.gave_up,
    )


async def _open_connections(job: Job, clients: list[Client]) -> None:
    count = split_evenly(job.load.concurrency, job.shard, job.shards)
    for client in clients:
        await client.open(max(1, count) if job.load.kind == "closed" else 1)


def _create_load_generator(
    job: Job, clients: list[Client], source: RequestSource, arrivals: Sequence[float] | None
) -> LoadGenerator:
    """Ready to run; `arrivals` are the offsets of a recorded workload, for a replay."""
    loop, load, sides = asyncio.get_running_loop(), job.load, len(clients)
    if load.kind == "closed":
        closed_loop = ClosedLoop(job, clients, source, loop=loop, monotonic=time.perf_counter)
        closed_loop.prepare()
        return closed_loop
    open_loop = OpenLoop(job, clients, source, loop=loop, monotonic=time.perf_counter)
    offsets: Sequence[float]
    if load.kind == "replay":
        offsets = plan_replay(
            arrivals or (),
            speed=load.speed,
            sides=sides,
            count=load.requests,
            duration=load.duration,
        )
    else:
        count = None if load.requests is None else (load.requests + load.warmup) * sides
        offsets = plan_departures(
            load.arrivals,
            load.rate * sides,
            count=count,
            duration=load.duration,
            seed=job.requests.seed,
        ).tolist()
    open_loop.schedule(offsets)
    return open_loop


async def _run_with_progress(
    generator: LoadGenerator, lines: asyncio.StreamReader
) -> tuple[float, Lag]:
    """Run the load and report progress; return the share of one core used, and the lag."""
    # A garbage collection during the run would be measured as the server's latency.
    gc.collect()
    gc.freeze()
    gc.disable()
    progress = asyncio.create_task(_report_progress(generator))
    stop = asyncio.create_task(_wait_for_stop(generator, lines))
    try:
        started = await generator.wait_for_start()
        return await _run_measured(generator) if started else (0.0, Lag())
    finally:
        progress.cancel()
        stop.cancel()
        await asyncio.gather(progress, stop, return_exceptions=True)
        gc.enable()


async def _run_measured(generator: LoadGenerator) -> tuple[float, Lag]:
    probe = LagProbe(asyncio.get_running_loop(), time.perf_counter)
    began, used = time.perf_counter(), time.process_time()
    try:
        await generator.run()
        cpu = (time.process_time() - used) / (time.perf_counter() - began)
    finally:
        lag = probe.stop()
    return cpu, lag


async def _report_progress(generator: LoadGenerator) -> None:
    while True:
        _send(generator.progress)
        await asyncio.sleep(_PROGRESS_INTERVAL)


async def _wait_for_stop(generator: LoadGenerator, lines: asyncio.StreamReader) -> None:
    while line := await lines.readline():
        if line.strip() == b"stop":
            generator.stop(GRACE_AFTER_STOP)
    generator.abort()  # the parent process is gone


def _send(message: BaseModel) -> None:
    os.write(1, orjson.dumps(message.model_dump()) + b"\n")


if __name__ == "__main__":
    main()
