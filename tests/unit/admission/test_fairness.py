"""Tenants share an engine by tokens, and priority traffic does not notice the others."""

import pytest

from tests.fakes.busy_engine import TOKEN_SECONDS, Load, Served, simulate

BATCH = 8
MUCH = Load("much", 100)
LITTLE = Load("little", 10)
SECONDS = 30.0
PEAK = SECONDS * BATCH / (MUCH.tokens * TOKEN_SECONDS)
setups = pytest.mark.parametrize(
    ("gateways", "is_known"), [(1, True), (1, False), (2, True), (2, False)]
)


def find_share(served: dict[str, Served]) -> float:
    """Return the share of `little` in all tokens."""
    total = sum(own.weighted_tokens for own in served.values())
    return served["little"].weighted_tokens / total


@setups
def test_equal_requests(gateways: int, *, is_known: bool) -> None:
    """A tenant with ten times as many clients gets half of the tokens, and no slot is idle."""
    served = simulate(MUCH, LITTLE, gateways=gateways, is_known=is_known, seconds=SECONDS)
    assert 0.45 <= find_share(served) <= 0.55
    assert sum(own.responses for own in served.values()) >= 0.95 * PEAK


@pytest.mark.parametrize("gateways", [1, 2])
def test_longer_requests(gateways: int) -> None:
    """A tenant with requests ten times as large gets half of the tokens."""
    little = Load("little", 10, prompt=400, tokens=32)
    assert 0.45 <= find_share(simulate(MUCH, little, gateways=gateways, seconds=SECONDS)) <= 0.55


@pytest.mark.parametrize("gateways", [1, 2])
def test_shorter_requests(gateways: int) -> None:
    """A tenant with requests a tenth as large gets half of the tokens."""
    much = Load("much", 100, prompt=400, tokens=32)
    assert 0.45 <= find_share(simulate(much, LITTLE, gateways=gateways, seconds=SECONDS)) <= 0.55


@setups
def test_alone(gateways: int, *, is_known: bool) -> None:
    """A tenant without others gets all slots."""
    served = simulate(MUCH, gateways=gateways, is_known=is_known, seconds=SECONDS)
    assert served["much"].responses >= 0.95 * PEAK


def test_trickle() -> None:
    """A tenant that sent few requests for a long time has no claim when it sends many."""
    trickle, burst = Load("little", 1, pause=0.05), Load("little", 30, start=60.0)
    served = simulate(trickle, burst, MUCH, warm_up=60.0, seconds=10.0)
    assert 0.4 <= find_share(served) <= 0.6


def test_no_queue_before() -> None:
    """A tenant that had an idle engine for itself is not in arrears when others come."""
    before, after = Load("much", BATCH - 1), Load("much", 100, start=60.0)
    served = simulate(before, after, Load("little", 30, start=60.0), warm_up=60.0, seconds=10.0)
    assert 0.4 <= find_share(served) <= 0.6


@setups
def test_priority(gateways: int, *, is_known: bool) -> None:
    """Overload does not delay the first tokens of priority requests."""
    urgent = Load("urgent", 1, service_class="priority", pause=0.3)
    served = simulate(urgent, MUCH, gateways=gateways, is_known=is_known, seconds=SECONDS)
    times = sorted(served["urgent"].first_tokens)
    assert times[int(0.99 * (len(times) - 1))] <= 1.5 * TOKEN_SECONDS
    # One slot is kept; each further worker may lose another one to rounding.
    assert served["much"].responses >= (BATCH - gateways - 0.5) / BATCH * PEAK


def test_end_of_priority() -> None:
    """A minute after the last priority request, all slots are for everybody."""
    urgent = Load("urgent", 1, service_class="priority", pause=0.3, end=5.0)
    served = simulate(urgent, MUCH, warm_up=70.0, seconds=SECONDS)
    assert served["much"].responses >= 0.95 * PEAK
