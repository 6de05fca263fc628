"""The start of a load."""

import asyncio
from collections.abc import Iterator

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
