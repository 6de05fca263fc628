"""The jobs that a session gives to its workers."""

from collections.abc import Sequence

import pytest
from typing_extensions import override

from maxgate.loadtest.client.client import ServerUnreachable
from maxgate.loadtest.messages import Failure, Job, Lag, Target
from maxgate.loadtest.options import Options
from maxgate.loadtest.session import Pool, Session
from maxgate.loadtest.worker_pool import Outcome, ProgressCallback
from tests.fakes.load_records import records, request_record
from tests.oracles.scripted import SilentScreen


class FakePool(Pool):
    """Keeps its jobs and returns one request for each, successful unless an error is given."""

    def __init__(self, error: str | None = None, *, dies_at: int | None = None) -> None:
        self.jobs: list[Job] = []
        self._error, self._dies_at = error, dies_at

    @override
    async def run(
        self, job: Job, on_progress: ProgressCallback, *, start: float | None = None
    ) -> Outcome:
        self.jobs.append(job)
        if len(self.jobs) == self._dies_at:
            raise ServerUnreachable("cannot reach http://a: refused")
        found = records(request_record(error=self._error))
        message = "Incorrect API key provided: key-1"
        failures = [Failure(side=0, kind=self._error, message=message)] if self._error else []
        return Outcome(found, cpu=0.1, server=None, wall=1.0, lag=Lag(), failures=failures)

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


async def test_error_between_levels() -> None:
    """An error ends the run; it keeps the levels before it, and is raised if there are none."""
    options = Options(scenarios=("short",), concurrency=(1, 2, 4), calibration=0.0)
    targets = [Target(url="http://a", model="m")]
    session = Session(options, targets, FakePool(dies_at=3), SilentScreen())
    await session.run()
    assert [level.name for level in session.results.levels] == ["concurrency 1"]
    assert session.results.stopped == "short, concurrency 2: cannot reach http://a: refused"
    with pytest.raises(ServerUnreachable):
        await Session(options, targets, FakePool(dies_at=1), SilentScreen()).run()


async def run_failing(error: str, *, keep_going: bool = False) -> tuple[Session, list[int | None]]:
    """The session after a run in which all requests fail, and the requests of its jobs."""
    pool = FakePool(error)
    options = Options(
        scenarios=("short", "long"), requests=9, calibration=0.0, keep_going=keep_going
    )
    target = Target(url="http://a", model="m", headers={"authorization": "Bearer key-1"})
    session = Session(options, [target], pool, SilentScreen())
    await session.run()
    return session, [job.load.requests for job in pool.jobs]


async def test_failing_warmup() -> None:
    """A run whose warm-up requests all fail stops with the reason, and keeps them as its level."""
    session, sent = await run_failing("http_401")
    reason = "all requests failed: http_401 (Incorrect API key provided: ***)"
    more = " (--keep-going continues nevertheless)"
    assert session.results.stopped == f"short: warming up: {reason}{more}"
    assert sent == [3, 5]
    (level,) = session.results.levels
    assert (level.requests.succeeded, level.requests.errors) == (0, {"http_401": 1})
    assert level.requests.error_messages == {"http_401": "Incorrect API key provided: ***"}


async def test_timeouts_in_warmup() -> None:
    """After a timeout, no further warm-up requests are sent, because each takes minutes."""
    _, sent = await run_failing("timeout")
    assert sent == [3]


async def test_keep_going() -> None:
    """With --keep-going, every level runs although all requests fail."""
    session, sent = await run_failing("http_401", keep_going=True)
    assert (session.results.stopped, sent) == (None, [3, 9, 3, 9])
