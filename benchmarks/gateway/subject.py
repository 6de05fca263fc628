"""What a case measures: one running gateway, and what is asked of it."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.gateway import prompts
from benchmarks.gateway.http_client import StandIn, Target
from benchmarks.gateway.processes import Process


class Failed(Exception):
    """A gateway did not do what the case asks of it."""


@dataclass
class Subject:
    """A running gateway, and what the cases need to know of it."""

    process: Process
    target: Target
    engine: StandIn
    folder: Path
    # Requests a second at saturation, once the first case has found it.
    capacity: float = 0

    def rate(self, share: float) -> float:
        """So much of its capacity. Raises Failed where that is not known."""
        if not self.capacity:
            raise Failed("its capacity is not known")
        return self.capacity * share


@dataclass(frozen=True)
class Bodies:
    """The templates of all cases."""

    short: bytes
    streamed: bytes
    long: bytes
    longest: bytes
    history: bytes
    bad: bytes
    unknown: bytes

    @classmethod
    def make(cls, count: prompts.CountTokens) -> "Bodies":
        """With the model's own idea of a token."""
        return cls(
            short=prompts.fresh(32, count),
            streamed=prompts.fresh(32, count, stream=True),
            long=prompts.fresh(1_000, count),
            longest=prompts.fresh(8_000, count),
            history=prompts.history(1_000, 10, count),
            bad=prompts.fresh(32, count, temperature="hot"),
            unknown=prompts.fresh(32, count, model="no-such-model"),
        )
