"""Repeat a request whose output failed validation, within the retry allowance of its context."""

from collections.abc import Iterator
from typing import Final

from maxgate.generation.request import GenerationRequest

MAX_ATTEMPTS: Final = 3
_TEMPERATURE_STEP: Final = 0.3


class Attempts:
    """The attempts at one request: the request itself, then retries, MAX_ATTEMPTS in all.

    A retry is taken from `request.context.retries` only when the caller iterates on. All layers
    and all choices of a client request share that allowance, so nested retries add up and never
    multiply; the iteration ends early when it is used up. `made` counts the attempts so far.
    """

    def __init__(self, request: GenerationRequest) -> None:
        self.made = 0
        self._request = request

    def __iter__(self) -> Iterator[GenerationRequest]:
        self.made = 1
        yield self._request
        while self.made < MAX_ATTEMPTS and self._request.context.retries.take():
            self.made += 1
            yield retry_request(self._request, self.made - 1)


def retry_request(request: GenerationRequest, number: int) -> GenerationRequest:
    """Return the request for retry `number`, from 1: a different seed, and never temperature 0."""
    sampling = request.sampling.with_seed_offset(number)
    # At temperature 0 the same response would come back.
    temperature = max(sampling.temperature, _TEMPERATURE_STEP * number)
    return request._replace(sampling=sampling._replace(temperature=temperature))
