"""More load than capacity; short forms of `make soak`. Engine and gateway are processes."""

import asyncio
from collections.abc import Iterator

import pytest

from benchmarks.admission.clients import Clients
from benchmarks.admission.overload import SLOTS, Load, measure
from benchmarks.admission.retry_after import measure_burst, retry_as_told
from benchmarks.admission.stack import SUBJECTS, run_engine, run_subject
from benchmarks.gateway.http_client import Target
from benchmarks.gateway.processes import choose_cores

pytestmark = pytest.mark.timing

TOKEN_SECONDS = 0.05  # eight of them in a response
LOAD = Load(capacity=10.0, slo=4.0, half_seconds=2.0, overload_seconds=6.0)


@pytest.fixture(scope="module")
def maxgate() -> Iterator[Target]:
    [subject] = [subject for subject in SUBJECTS if subject.name == "maxgate"]
    gateway_core, other_core = choose_cores()
    with (
        run_engine(other_core, SLOTS, TOKEN_SECONDS) as engine,
        run_subject(subject, engine, gateway_core) as target,
    ):
        yield target


def test_goodput(maxgate: Target) -> None:
    """At ten times its capacity the engine works on good requests only; the others are refused.

    Twice the capacity comes first, and shows the limit.
    """
    [_, ten_times] = asyncio.run(measure("maxgate", Clients(maxgate), LOAD))
    assert ten_times.goodput >= 0.9 * LOAD.capacity, str(ten_times)
    assert ten_times.after >= 0.9, str(ten_times)
    assert ten_times.other == {}


def test_retry_after(maxgate: Target) -> None:
    """Clients that are refused and retry as told are served then."""

    async def measure_retries() -> list[float]:
        clients = Clients(maxgate, patience=30.0)
        retries = await measure_burst(clients, 50, retry_as_told)
        clients.close()
        return [retry.ratio for retry in retries]

    ratios = asyncio.run(measure_retries())
    assert len(ratios) >= 20
    assert sum(abs(ratio - 1) <= 0.3 for ratio in ratios) >= 0.9 * len(ratios), sorted(ratios)
