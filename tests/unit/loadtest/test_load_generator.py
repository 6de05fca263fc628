"""When a load begins, and that it need not."""

import asyncio
from collections.abc import Iterator

from maxgate.loadtest.messages import Job, LoadShape, RequestShape
from maxgate.loadtest.open_loop import OpenLoop
from maxgate.loadtest.scenarios.files import load_scenario
from maxgate.loadtest.scenarios.requests import RequestSource


def runner(times: Iterator[float]) -> OpenLoop:
    """An open loop that is to start at 10 s; its clock shows these times one after another."""
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
    made = OpenLoop(job, [], source, loop=loop, monotonic=times.__next__)
    made.schedule([0.0])
    return made


async def test_nothing_leaves_before_the_start_though_the_event_loop_wakes_early() -> None:
    times = iter([9.999, 9.9999, 10.0, 11.0])
    assert await runner(times).wait_for_start()
    assert list(times) == [11.0]


async def test_who_waits_for_the_start_can_be_stopped() -> None:
    waits = runner(iter([0.0, 0.0]))
    reached = asyncio.create_task(waits.wait_for_start())
    await asyncio.sleep(0)
    waits.stop(1.0)
    assert not await reached
    assert waits.request_records == []
