"""Retries draw on the allowance of the client request."""

from itertools import islice

from maxgate.generation.context import MAX_RETRIES
from maxgate.generation.request import Sampling
from maxgate.generation.retry import MAX_ATTEMPTS, Attempts, retry_request
from tests.fakes.requests import generation_request


def test_attempts() -> None:
    """The first attempt is the request itself; retries differ in seed and temperature."""
    request = generation_request(seed=5)
    request = request._replace(sampling=request.sampling._replace(temperature=0))
    attempts = Attempts(request)
    sampling = [attempt.sampling for attempt in attempts]
    assert [(one.seed, one.temperature) for one in sampling] == [(5, 0), (6, 0.3), (7, 0.6)]
    assert attempts.made == MAX_ATTEMPTS
    assert request.context.retries.remaining == MAX_RETRIES - 2


def test_retries_are_taken_on_demand() -> None:
    """An attempt that is not asked for takes nothing from the allowance."""
    request = generation_request()
    attempts = Attempts(request)
    assert list(islice(attempts, 1)) == [request]
    assert (attempts.made, request.context.retries.remaining) == (1, MAX_RETRIES)


def test_shared_allowance() -> None:
    """Requests that share a context share its allowance, and end when it is used up."""
    request = generation_request()
    made = []
    for choice in range(3):
        attempts = Attempts(request._replace(n=1, prefix=str(choice)))
        list(attempts)
        made.append(attempts.made)
    assert made == [3, 2, 1]


def test_high_temperature_is_kept() -> None:
    """A retry raises the temperature only if it is lower."""
    request = generation_request()._replace(sampling=Sampling(1.5, 1.0))
    assert retry_request(request, 2).sampling == Sampling(1.5, 1.0)
