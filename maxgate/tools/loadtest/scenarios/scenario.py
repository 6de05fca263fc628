"""What every scenario offers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

JSON = dict[str, Any]


@dataclass(frozen=True)
class Turn:
    """One request: its messages, and fields of its own such as `max_tokens` and `tools`."""

    messages: Sequence[JSON]
    fields: JSON = field(default_factory=dict)


class Scenario(Protocol):
    """An endless, repeatable source of conversations; most have one turn."""

    @property
    def live_answers(self) -> bool:
        """Whether a later turn's messages have to be completed by the answers before it."""
        ...

    @property
    def arrivals(self) -> Sequence[float] | None:
        """Seconds from the start, for a recorded trace."""
        ...

    def conversation(self, index: int, rng: Random) -> Sequence[Turn]:
        """The turns of this conversation; `rng` belongs to the seed and the index."""
        ...


@dataclass(frozen=True)
class Recorded:
    """Conversations that are there already, taken in order, again and again."""

    conversations: Sequence[Sequence[Turn]]
    live_answers: bool = False
    arrivals: Sequence[float] | None = None

    def conversation(self, index: int, rng: Random) -> Sequence[Turn]:  # noqa: ARG002
        """See Scenario."""
        return self.conversations[index % len(self.conversations)]


@dataclass(frozen=True)
class Mixed:
    """Conversations of several scenarios, drawn by weight."""

    parts: Sequence[Scenario]
    weights: Sequence[float]
    live_answers: bool = False
    arrivals: Sequence[float] | None = None

    def conversation(self, index: int, rng: Random) -> Sequence[Turn]:
        """See Scenario."""
        (part,) = rng.choices(self.parts, self.weights)
        return part.conversation(index, rng)
