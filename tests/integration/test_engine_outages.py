"""Engines fail under load; short forms of `make soak`. Engines are processes of their own."""

import asyncio

import pytest

from benchmarks.failover import bad_replica, engine_restarts, kills, storm
from benchmarks.failover.mock_engine import Fault
from benchmarks.failover.mock_stack import run_mocks

REQUESTS = 500


@pytest.mark.parametrize("fault", ["500", "hang", "slow", "slow-tokens"])
def test_bad_replica(fault: Fault) -> None:
    """Clients do not notice that one of three engines is bad, and it soon gets few requests."""
    with run_mocks(3, 0.05, 0.005) as (url, mocks):
        result = asyncio.run(
            bad_replica.measure(url, mocks, fault, REQUESTS, stream=True, at_once=24)
        )
    assert result.failed == 0, str(result)
    assert result.calls < REQUESTS / 10, str(result)  # a third, if nothing were done


def test_kills() -> None:
    """Streams go on with exact ids and usage while engines are killed and restarted.

    Requests do not notice a rolling restart of all engines.
    """
    with run_mocks(3, 0.02, 0.01) as (url, mocks):
        assert asyncio.run(kills.measure(url, mocks, 60, kills=3, at_once=30)) == 0
        assert asyncio.run(engine_restarts.measure(url, mocks, 100, at_once=8))


@pytest.mark.parametrize("outage", ["500", "refuse"])
def test_retry_storm(outage: storm.Outage) -> None:
    """With all engines down, there are few engine calls per request, and they are found again."""
    with run_mocks(3, 0.01, 0.001) as (url, mocks):
        run = storm.measure(url, mocks, outage, rate=150, seconds=2, healthy=1)
        assert asyncio.run(run)
