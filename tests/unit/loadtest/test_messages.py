"""Messages of the worker processes."""

from maxgate.loadtest.messages import Lag, Progress, max_lag, sum_progress


def test_max_lag() -> None:
    """Each statistic is the maximum over all workers."""
    one, other = Lag(mean=0.1, p99=0.2, p995=0.3, p9995=0.9, max=1.0), Lag(mean=0.2, p99=0.1)
    assert max_lag([one, other]) == one.model_copy(update={"mean": 0.2})


def test_sum_progress() -> None:
    """The counts of all workers are added."""
    parts = [Progress(started=3, succeeded=1, in_flight=2), Progress(started=1, failed=1, chunks=4)]
    assert sum_progress(parts) == Progress(started=4, succeeded=1, failed=1, in_flight=2, chunks=4)
