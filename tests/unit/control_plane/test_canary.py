"""The canary of all workers: their samples are summed, and it ends if nobody reads it."""

from collections.abc import Mapping

import pytest

from maxgate.api.admin.canary import NewCanary
from maxgate.canary.samples import Sample, Times, WorkerReport
from maxgate.control_plane.canary import CanaryController, CanaryOrder
from maxgate.errors import GatewayError

NEW = NewCanary(url="http://user:secret@new:8000/v1", mirror=True, requests=10)
SAMPLE = Sample(old=Times(ttft=1), new=Times(ttft=1), prefix=1)


class Workers:
    """Workers by process id, with all of their samples; `now` is the time in seconds."""

    def __init__(self, **samples: list[Sample]) -> None:
        self.by_pid = {int(pid[1:]): found for pid, found in samples.items()}
        self.orders: list[CanaryOrder] = []
        self.now = 0.0
        self.models = ["llama"]
        self.error: str | None = None

    async def collect(self, order: CanaryOrder) -> Mapping[int, WorkerReport]:
        """Return the new samples of each worker."""
        self.orders.append(order)
        return {
            pid: WorkerReport(
                models=self.models,
                error=self.error,
                seen=10,
                skipped={"busy": pid},
                in_progress=1,
                samples=samples[order.after.get(pid, 0) :],
            )
            for pid, samples in self.by_pid.items()
        }

    def control(self) -> CanaryController:
        """Return the control of these workers."""
        return CanaryController(self.collect, lambda: self.now)


async def test_sum() -> None:
    """The counts of all workers are summed, and each sample is counted once."""
    workers = Workers(p1=[SAMPLE], p2=[SAMPLE, Sample(error="timeout")])
    control = workers.control()
    started = await control.start_canary(NEW)
    assert (started.url, started.workers, started.completed) == ("http://new:8000", 2, 3)
    workers.by_pid[1].append(SAMPLE)
    read = await control.read_canary()
    assert (read.completed, read.errors, read.causes) == (4, 1, {"timeout": 1})
    assert (read.seen, read.skipped, read.in_progress) == (20, {"busy": 3}, 2)
    assert [order.after for order in workers.orders] == [{}, {1: 1, 2: 2}]
    assert {order.id for order in workers.orders} == {started.id}


async def test_replaced_worker() -> None:
    """A new worker gets the canary, and the samples of the old one stay."""
    workers = Workers(p1=[SAMPLE] * 3)
    control = workers.control()
    await control.start_canary(NEW)
    workers.by_pid = {2: [SAMPLE]}
    read = await control.read_canary()
    assert (read.completed, read.workers) == (4, 1)
    assert workers.orders[-1].canary is not None
    assert workers.orders[-1].canary.url == "http://user:secret@new:8000"


async def test_end() -> None:
    """The end is passed to all workers, and their last samples count."""
    workers = Workers(p1=[SAMPLE])
    control = workers.control()
    await control.start_canary(NEW)
    workers.by_pid[1].append(SAMPLE)
    assert (await control.stop_canary()).completed == 2
    assert workers.orders[-1].canary is None
    with pytest.raises(GatewayError, match="No canary runs"):
        await control.read_canary()


async def test_lease() -> None:
    """A canary that nobody reads for 30 s ends, and makes room for another one."""
    workers = Workers(p1=[])
    control = workers.control()
    first = await control.start_canary(NEW)
    for now in (29.0, 58.0):
        workers.now = now
        assert (await control.read_canary()).id == first.id
        with pytest.raises(GatewayError, match="A canary with http://new:8000 runs already"):
            await control.start_canary(NEW)
    workers.now = 88.0
    with pytest.raises(GatewayError, match="No canary runs"):
        await control.read_canary()
    assert (await control.start_canary(NEW)).id != first.id


async def test_state() -> None:
    """A canary starts until a worker has the models, with the reason why there are none."""
    workers = Workers(p1=[])
    workers.models, workers.error = [], "connection refused"
    control = workers.control()
    started = await control.start_canary(NEW)
    assert (started.state, started.error, started.verdict) == (
        "starting",
        "connection refused",
        "inconclusive",
    )
    workers.models, workers.error = ["llama"], None
    assert (await control.read_canary()).state == "running"


@pytest.mark.parametrize("url", ["ftp://a", "dns+http://a", "http://a:0"])
async def test_invalid_url(url: str) -> None:
    """An URL that is no engine is refused before any worker hears of it."""
    workers = Workers(p1=[])
    with pytest.raises(GatewayError) as caught:
        await workers.control().start_canary(NEW.model_copy(update={"url": url}))
    assert (caught.value.status, caught.value.code, caught.value.param) == (
        400,
        "invalid_engine",
        "url",
    )
    assert workers.orders == []
