"""Two tenants share an engine through gateway processes; the short form of `make soak`."""

import pytest

from benchmarks.admission.fairness import LOADS, run_setup, summarize
from benchmarks.admission.tenants import SETUPS, send_all

pytestmark = pytest.mark.timing

WARM_UP = 4.0
SECONDS = 8.0


@pytest.mark.parametrize("setup", SETUPS)
async def test_shares(setup: str) -> None:
    """A tenant with ten times as many clients gets half of the tokens."""
    load = "equal"
    with run_setup(setup) as targets:
        found = await send_all(targets, LOADS[load], SECONDS, WARM_UP)
    result = summarize(setup, load, found, peak=None)
    assert result.failed == 0
    assert 0.45 <= result.share <= 0.55
