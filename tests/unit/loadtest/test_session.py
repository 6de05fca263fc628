"""The jobs that a session gives to its workers."""

from collections.abc import Sequence

from typing_extensions import override

from maxgate.loadtest.messages import Job, Lag, Target
from maxgate.loadtest.options import Options
from maxgate.loadtest.session import Pool, Session
from maxgate.loadtest.worker_pool import Outcome, ProgressCallback
from tests.fakes.load_records import records, request_record
from tests.oracles.scripted import SilentScreen


class FakePool(Pool):
    """Keeps its jobs and returns one successful request for each."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    @override
    async def run(
        self, job: Job, on_progress: ProgressCallback, *, start: float | None = None
    ) -> Outcome:
        self.jobs.append(job)
        return Outcome(records(request_record()), cpu=0.1, server=None, wall=1.0, lag=Lag())

    @override
    def stop(self) -> None:
        pass


async def nonces(*, cold: bool) -> Sequence[str | None]:
    """The nonces of the jobs of two levels and the probe before them."""
    pool = FakePool()
    options = Options(scenarios=("short",), concurrency=(1, 2), cold=cold, calibration=0.0)
    await Session(options, [Target(url="http://a", model="m")], pool, SilentScreen()).run()
    return [job.requests.nonce for job in pool.jobs]


async def test_cold_run() -> None:
    """Every job of a cold run has a different nonce."""
    found = await nonces(cold=True)
    assert len(set(found)) == len(found) == 3


async def test_warm_run() -> None:
    """Without --cold there is no nonce."""
    assert await nonces(cold=False) == [None, None, None]


async def test_calibration() -> None:
    """The load generator is calibrated before and after each level."""
    pool = FakePool()
    options = Options(scenarios=("short",), concurrency=(2,), duration=5.0, calibration=3.0)
    await Session(options, [Target(url="http://a", model="m")], pool, SilentScreen()).run()
    jobs = [(job.targets[0].model, job.load.duration) for job in pool.jobs]
    assert jobs == [("m", None), ("scripted", 1.5), ("m", 5.0), ("scripted", 1.5)]
