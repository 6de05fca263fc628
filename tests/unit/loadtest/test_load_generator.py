"""The start of a load, and the end of a hopeless one."""

import asyncio
from collections.abc import Iterator, Sequence

import pytest

from maxgate.loadtest.client.request_record import RequestRecord
from maxgate.loadtest.load_generator import FailureWatch
from maxgate.loadtest.messages import Job, LoadShape, RequestShape
from maxgate.loadtest.open_loop import OpenLoop
from maxgate.loadtest.scenarios.files import load_scenario
from maxgate.loadtest.scenarios.requests import RequestSource


def open_loop(times: Iterator[float]) -> OpenLoop:
    """An open loop that starts at 10 s; its clock shows these times in sequence."""
    shape = RequestShape(scenario="short", seed=1, stream=True, max_tokens=5)
    job = Job(
        run_id="test",
        targets=[],
        requests=shape,
        load=LoadShape(kind="open", rate=1, duration=1),
        timeout=10,
        grace=5,
        shard=0,
        shards=1,
        start=10.0,
        records="",
    )
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
    watch = FailureWatch()
    if last_success is not None:
        watch.on_success(last_success)
    oldest = None if oldest_sent is None else failed(oldest_sent, 0.0)
    assert first_hopeless(watch, [k / 10 for k in range(400)], oldest) == number


def test_first_failures() -> None:
    """The first failure of each kind is kept."""
    watch = FailureWatch()
    for kind, text in (("http_401", b"a"), ("http_401", b"b"), ("timeout", b"")):
        watch.on_failure(failed(0.0, 1.0, kind, text), None)
    assert watch.failures == {"http_401": b"a", "timeout": b""}
