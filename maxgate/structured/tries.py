"""Asking again for what did not fit."""

from typing import Final

from maxgate.generation.events import Usage
from maxgate.generation.request import GenerationRequest

TRIES: Final = 3


def varied(request: GenerationRequest, number: int) -> GenerationRequest:
    """The request for the try of this number, from 0; its seed goes with the number."""
    if number == 0:
        return request
    sampling = request.sampling.varied(number)
    # At temperature 0 the same answer would come again.
    warmer = max(sampling.temperature, 0.3 * number)
    return request._replace(sampling=sampling._replace(temperature=warmer))


def added(one: Usage, other: Usage) -> Usage:
    """What several tries took together, with the prompt counted once."""
    return Usage(
        max(one.prompt, other.prompt),
        one.completion + other.completion,
        max(one.cached, other.cached),
    )
