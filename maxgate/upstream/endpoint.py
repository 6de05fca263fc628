"""One MAX server: its address and what is known of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from maxgate.generation.catalog import Abilities

EndpointState = Literal["unknown", "healthy", "unreachable"]


@dataclass(frozen=True, slots=True)
class EngineModel:
    """A model as an engine lists it; `context_length` is None where it does not say."""

    name: str
    created: int
    context_length: int | None


class Endpoint:
    """What requests and probes have learned about one engine.

    `models` is what it listed last, also while it is away: it is expected to come back with them.
    `abilities` is what was found out about each of them. `in_flight` counts the requests that it
    has not answered to the end.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.state: EndpointState = "unknown"
        self.models: Mapping[str, EngineModel] = {}
        self.error: str | None = None
        self.in_flight = 0
        self.abilities: dict[str, Abilities] = {}

    def mark_healthy(self, models: Mapping[str, EngineModel]) -> None:
        """It has listed its models."""
        self.state, self.models, self.error = "healthy", models, None

    def mark_unreachable(self, error: str) -> None:
        """A connection to it failed."""
        self.state, self.error = "unreachable", error
