"""What a session asks of the processes that load."""

from collections.abc import Sequence

from maxgate.loadtest.messages import Job, Lag, Target
from maxgate.loadtest.options import Options
from maxgate.loadtest.session import Session
from maxgate.loadtest.worker_pool import Outcome, ProgressCallback
from tests.fakes.load_records import records, request_record
from tests.oracles.scripted import Silent


class OneAnswer:
    """A pool that keeps its jobs and brings one answer for each."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    async def run(
        self, job: Job, on_progress: ProgressCallback, *, start: float | None = None
    ) -> Outcome:
        """See WorkerPool."""
        self.jobs.append(job)
        return Outcome(records(request_record()), cpu=0.1, server=None, wall=1.0, lag=Lag())

    def stop(self) -> None:
        """See WorkerPool."""


async def nonces(*, cold: bool) -> Sequence[str | None]:
    """Of every job of two levels and the probe before them."""
    pool = OneAnswer()
    options = Options(scenarios=("short",), concurrency=(1, 2), cold=cold, calibration=0.0)
    await Session(options, [Target(url="http://a", model="m")], pool, Silent()).run()
    return [job.requests.nonce for job in pool.jobs]


async def test_no_level_of_a_cold_run_finds_what_another_has_left_in_the_cache() -> None:
    found = await nonces(cold=True)
    assert len(set(found)) == len(found) == 3


async def test_a_run_that_may_be_warm_has_no_nonce() -> None:
    assert await nonces(cold=False) == [None, None, None]


async def test_the_client_is_measured_before_a_level_and_after_it() -> None:
    pool = OneAnswer()
    options = Options(scenarios=("short",), concurrency=(2,), duration=5.0, calibration=3.0)
    await Session(options, [Target(url="http://a", model="m")], pool, Silent()).run()
    asked = [(job.targets[0].model, job.load.duration) for job in pool.jobs]
    assert asked == [("m", None), ("scripted", 1.5), ("m", 5.0), ("scripted", 1.5)]
