"""The start of a load, and the end of a hopeless one."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from typing_extensions import override

from maxgate.loadtest.client.client import Client, OnFinished
from maxgate.loadtest.client.request_record import RequestRecord
from maxgate.loadtest.closed_loop import ClosedLoop
from maxgate.loadtest.load_generator import FailureWatch
from maxgate.loadtest.messages import Failure, Job, LoadShape, RequestShape, Target
from maxgate.loadtest.open_loop import OpenLoop
from maxgate.loadtest.scenarios.files import load_scenario
from maxgate.loadtest.scenarios.requests import RequestSource

TALKS = """
requests:
  - turns: [a, b, c, d]
"""


def create_job(shape: RequestShape, load: LoadShape) -> Job:
    """A job that starts at 10 s, with one server."""
    return Job(
        run_id="test",
        targets=[Target(url="http://a", model="m")],
        requests=shape,
        load=load,
        timeout=10,
        grace=5,
        shard=0,
        shards=1,
        start=10.0,
        records="",
    )


def open_loop(times: Iterator[float]) -> OpenLoop:
    """An open loop that starts at 10 s; its clock shows these times in sequence."""
    shape = RequestShape(scenario="short", seed=1, stream=True, max_tokens=5)
    job = create_job(shape, LoadShape(kind="open", rate=1, duration=1))
    source = RequestSource(shape, load_scenario(shape))
    loop = asyncio.get_running_loop()
    generator = OpenLoop(job, [], source, loop=loop, monotonic=times.__next__)
    generator.schedule([0.0])
    return generator


async def test_wait_for_start() -> None:
    """Nothing leaves before the start time, even if the event loop wakes up early."""
    times = iter([9.999, 9.9999, 10.0, 11.0])
    assert await open_loop(times).wait_for_start()
    assert list(times) == [11.0]


async def test_stop_before_start() -> None:
    """The wait for the start time can be stopped."""
    generator = open_loop(iter([0.0, 0.0]))
    reached = asyncio.create_task(generator.wait_for_start())
    await asyncio.sleep(0)
    generator.stop(1.0)
    assert not await reached
    assert generator.request_records == []


def failed(sent: float, ended: float, kind: str = "http_401", text: bytes = b"") -> RequestRecord:
    """A failed request."""
    record = RequestRecord(0, stream=True, scheduled=sent)
    record.sent, record.ended, record.error, record.failure = sent, ended, kind, text
    return record


def first_hopeless(
    watch: FailureWatch, times: Sequence[float], oldest: RequestRecord | None = None
) -> int | None:
    """The number of the failure at which the load is hopeless; None if it never is."""
    for number, at in enumerate(times, 1):
        if watch.on_failure(failed(at, at), oldest):
            return number
    return None


@pytest.mark.parametrize(
    ("last_success", "oldest_sent", "number"),
    [
        (None, None, 50),
        (None, 60.0, 50),  # in flight, but sent after those that failed
        (None, 0.0, None),  # a slow request may still succeed
        (0.0, None, 301),  # 30 s after the last success
        (20.0, None, None),
        (0.0, -1.0, None),
    ],
)
def test_hopeless_load(
    last_success: float | None, oldest_sent: float | None, number: int | None
) -> None:
    """A load is hopeless if its first 50 requests fail, or all for 30 seconds."""
    watch = FailureWatch(50)
    if last_success is not None:
        watch.on_success(last_success)
    oldest = None if oldest_sent is None else failed(oldest_sent, 0.0)
    assert first_hopeless(watch, [k / 10 for k in range(400)], oldest) == number


def test_first_failures() -> None:
    """The first failure of each kind is kept."""
    watch = FailureWatch(50)
    for kind, text in (("http_401", b"a"), ("http_401", b"b"), ("timeout", b"")):
        watch.on_failure(failed(0.0, 1.0, kind, text), None)
    assert watch.failures == {"http_401": b"a", "timeout": b""}


class FakeClient(Client):
    """Keeps the turns that it is to send, and ends every request at once."""

    def __init__(self, error: str | None = None) -> None:
        self.in_flight = {}
        self.sent: list[tuple[int, int, bool]] = []
        self._error = error

    @override
    def send(self, record: RequestRecord, body: bytes, on_finished: OnFinished) -> None:
        self.sent.append((record.index, record.turn, record.warmup))
        record.error, record.failure = self._error, b"no room"
        on_finished(record)

    @override
    def expire(self, timeout: float) -> None:
        pass


@pytest.fixture
def talks(tmp_path: Path) -> RequestShape:
    """Conversations of four turns."""
    path = tmp_path / "talks.yaml"
    path.write_text(TALKS)
    return RequestShape(scenario=str(path), seed=1, stream=True, max_tokens=5)


async def test_rate_counts_requests(talks: RequestShape) -> None:
    """Four turns take four departures, so the rate is that of requests, and -n ends a talk."""
    times = iter([19.0] * 100)
    job = create_job(talks, LoadShape(kind="open", rate=5, requests=8, warmup=2))
    client = FakeClient()
    source = RequestSource(talks, load_scenario(talks))
    loop = asyncio.get_running_loop()
    generator = OpenLoop(job, [client], source, loop=loop, monotonic=times.__next__)
    generator.schedule([k / 5 for k in range(10)])
    await generator.run()
    scheduled = [r.scheduled for r in generator.request_records if r.turn == 0]
    assert scheduled == [10.0, 10.8, 11.6]
    turns = [(k, turn) for k in range(3) for turn in range(4)][:10]
    assert client.sent == [(k, turn, (k, turn) < (0, 2)) for k, turn in turns]


async def test_closed_loop_counts_requests(talks: RequestShape) -> None:
    """The number of requests counts turns."""
    job = create_job(talks, LoadShape(kind="closed", concurrency=2, requests=6, warmup=1))
    client = FakeClient()
    source = RequestSource(talks, load_scenario(talks))
    loop = asyncio.get_running_loop()
    generator = ClosedLoop(job, [client], source, loop=loop, monotonic=lambda: 10.0)
    generator.prepare()
    await generator.run()
    turns = [(k, turn) for k in range(2) for turn in range(4)][:7]
    assert client.sent == [(k, turn, (k, turn) == (0, 0)) for k, turn in turns]


@pytest.mark.parametrize(("keep_going", "sent"), [(False, 50), (True, 60)])
async def test_hopeless_level(*, keep_going: bool, sent: int) -> None:
    """A level whose first 50 requests fail ends, unless it is to go on."""
    shape = RequestShape(scenario="short", seed=1, stream=True, max_tokens=5)
    job = create_job(shape, LoadShape(kind="closed", concurrency=2, requests=60))
    job.keep_going = keep_going
    client, loop = FakeClient("http_503"), asyncio.get_running_loop()
    source = RequestSource(shape, load_scenario(shape))
    generator = ClosedLoop(job, [client], source, loop=loop, monotonic=lambda: 10.0)
    generator.prepare()
    await generator.run()
    assert (len(client.sent), generator.gave_up) == (sent, not keep_going)
    assert generator.failures == [Failure(side=0, kind="http_503", message="no room")]
