"""One process of load: `python -m maxgate.loadtest.worker`.

It reads jobs from standard input, one JSON line each, and says how it goes on standard output. The
line `stop` ends the present job in good order. The end of the input ends the process.
"""

import asyncio
import gc
import os
import signal
import sys
import time
from pathlib import Path

import orjson
import uvloop
from pydantic import BaseModel

from maxgate.errors import MaxgateError
from maxgate.loadtest.arrivals import share_of
from maxgate.loadtest.client.address import parse_address
from maxgate.loadtest.client.client import Client
from maxgate.loadtest.client.request_record import records_of
from maxgate.loadtest.client.timing import LagProbe
from maxgate.loadtest.load_generator import Runner
from maxgate.loadtest.messages import Job, JobDone, Lag, Ready, Start
from maxgate.loadtest.open_loop import loop_of
from maxgate.loadtest.scenarios.files import load_scenario
from maxgate.loadtest.scenarios.requests import RequestSource
from maxgate.results.records import write_records

_SAY_EVERY = 0.5
_GRACE_AFTER_STOP = 1.0


def main() -> None:
    """Work until the input ends."""
    for number in (signal.SIGINT, signal.SIGTERM):  # they reach us through who started us
        signal.signal(number, signal.SIG_IGN)
    uvloop.run(work())


async def work() -> None:
    """Do the jobs of standard input, one after another."""
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=2**26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        if line.strip() == b"stop" or b'"start"' in line[:10]:
            continue  # it was for a job that is over
        job = Job.model_validate_json(line)
        try:
            done = await _do(job, lines)
        except MaxgateError as error:
            done = JobDone(cpu=0, server=None, failure=str(error))
        _say(done)


async def _do(job: Job, lines: asyncio.StreamReader) -> JobDone:
    loop = asyncio.get_running_loop()
    scenario = load_scenario(job.requests)
    source = RequestSource(job.requests, scenario)
    clients = [
        Client(
            parse_address(peer.url),
            peer.headers,
            loop=loop,
            monotonic=time.perf_counter,
            run_id=f"{job.run_id}-{side}",
        )
        for side, peer in enumerate(job.peers)
    ]
    try:
        await _open_connections(job, clients)
        _say(Ready())
        job.start = Start.model_validate_json(await lines.readline()).start
        runner = loop_of(job, clients, source, scenario.arrivals, loop)
        cpu, lag = await _measured(runner, lines)
    finally:
        for client in clients:
            await client.close()
    records = records_of(runner.exchanges, start=job.start, worker=job.shard)
    await asyncio.to_thread(write_records, [records], Path(job.records))
    server = next((client.server for client in clients if client.server), None)
    name = server.decode(errors="replace") if server else None
    return JobDone(cpu=cpu, server=name, lag=lag)


async def _open_connections(job: Job, clients: list[Client]) -> None:
    count = share_of(job.load.concurrency, job.shard, job.shards)
    for client in clients:
        await client.open(max(1, count) if job.load.kind == "closed" else 1)


async def _measured(runner: Runner, lines: asyncio.StreamReader) -> tuple[float, Lag]:
    """Run it when it is time, say how it goes, and return what `_timed` does."""
    # A collection in the middle would be stamped as the server's slowness.
    gc.collect()
    gc.freeze()
    gc.disable()
    talk = asyncio.create_task(_talk(runner))
    listen = asyncio.create_task(_listen(runner, lines))
    try:
        return await _timed(runner) if await runner.reach_start() else (0.0, Lag())
    finally:
        talk.cancel()
        listen.cancel()
        await asyncio.gather(talk, listen, return_exceptions=True)
        gc.enable()


async def _timed(runner: Runner) -> tuple[float, Lag]:
    """Run it and return how much of one core it took and how late it was."""
    probe = LagProbe(asyncio.get_running_loop(), time.perf_counter)
    began, used = time.perf_counter(), time.process_time()
    try:
        await runner.run()
        cpu = (time.process_time() - used) / (time.perf_counter() - began)
    finally:
        lag = probe.stop()
    return cpu, lag


async def _talk(runner: Runner) -> None:
    while True:
        _say(runner.progress)
        await asyncio.sleep(_SAY_EVERY)


async def _listen(runner: Runner, lines: asyncio.StreamReader) -> None:
    while line := await lines.readline():
        if line.strip() == b"stop":
            runner.stop(_GRACE_AFTER_STOP)
    runner.cut()  # whoever asked is gone


def _say(what: BaseModel) -> None:
    os.write(1, orjson.dumps(what.model_dump()) + b"\n")


if __name__ == "__main__":
    main()
