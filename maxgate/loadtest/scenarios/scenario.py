"""The interface of a scenario, the built-in scenarios, and checks shared by all file formats."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, Protocol

from pydantic import ValidationError
from typing_extensions import override

from maxgate.errors import ConfigurationError
from maxgate.results.quoting import shorten
from maxgate.settings_section import choose_error

JSON = dict[str, Any]


@dataclass(frozen=True)
class Turn:
    """One request: its messages and its own fields, such as `max_tokens` and `tools`."""

    messages: Sequence[JSON]
    fields: JSON = field(default_factory=dict)


class Scenario(Protocol):
    """An endless, reproducible source of conversations; most have one turn."""

    @property
    def live_responses(self) -> bool:
        """Whether later turns contain the model's own responses to earlier ones."""
        ...

    @property
    def arrivals(self) -> Sequence[float] | None:
        """Seconds from the start of a recorded workload to each departure; otherwise None."""
        ...

    @property
    def single_turn(self) -> bool:
        """Whether every conversation is known to have one turn."""
        return False

    @property
    def summary(self) -> Sequence[str]:
        """Lines about the content of a file, and what was left out of it; printed before a run."""
        return ()

    def conversation(self, index: int, rng: Random) -> Sequence[Turn]:
        """The turns of this conversation; `rng` is seeded with the seed and the index."""
        ...


@dataclass(frozen=True)
class RecordedWorkload(Scenario):
    """Given conversations, in order and then from the start again."""

    conversations: Sequence[Sequence[Turn]]
    live_responses: bool = False
    arrivals: Sequence[float] | None = None

    @property
    @override
    def single_turn(self) -> bool:
        return all(len(turns) == 1 for turns in self.conversations)

    @override
    def conversation(self, index: int, rng: Random) -> Sequence[Turn]:
        return self.conversations[index % len(self.conversations)]


@dataclass(frozen=True)
class Mixture(Scenario):
    """Conversations of several scenarios, drawn by weight."""

    parts: Sequence[Scenario]
    weights: Sequence[float]
    live_responses: bool = False
    arrivals: Sequence[float] | None = None

    @property
    @override
    def single_turn(self) -> bool:
        return all(part.single_turn for part in self.parts)

    @override
    def conversation(self, index: int, rng: Random) -> Sequence[Turn]:
        (part,) = rng.choices(self.parts, self.weights)
        return part.conversation(index, rng)


_TOPICS: Final = (
    "volcanoes, bicycles, lighthouses, chess, coral reefs, sourdough, railways, glaciers, violins, "
    "beehives, canals, maps, kites, windmills, batteries, bridges, tea, comets, pottery, opera, "
    "rivers, clocks, vaccines, satellites, origami, castles, orchards, submarines, printing"
)
_PLACES: Final = "Norway, Peru, Kenya, Japan, Canada, Egypt, India, Chile, Greece, Vietnam, Ghana"

_SYSTEM: Final = "You are a careful assistant who answers briefly and in plain words."
_LONG: Final = (
    "I am preparing a talk for a group of school children who are about ten years old, and I want "
    "to explain {topic} in {place} to them. Most of them have never heard about it before, and "
    "they lose interest quickly when somebody uses difficult words. Please give me an outline of "
    "the talk with an opening that makes them curious, three main points with an everyday example "
    "for each of them, one question that I can ask the class, and a short sentence to end with. "
    "It should take about {minutes} minutes."
)


class _Prompt(Scenario):
    live_responses = False
    arrivals = None
    single_turn = True

    def __init__(self, write: Callable[[str, str, Random], Turn]) -> None:
        self._write = write

    @override
    def conversation(self, index: int, rng: Random) -> Sequence[Turn]:
        return [self._write(rng.choice(_TOPICS.split(", ")), rng.choice(_PLACES.split(", ")), rng)]


def _short(topic: str, place: str, _: Random) -> Turn:
    return Turn([{"role": "user", "content": f"Tell me about {topic} in {place}."}])


def _medium(topic: str, place: str, _: Random) -> Turn:
    question = f"What should a visitor to {place} know about {topic} there?"
    system = {"role": "system", "content": _SYSTEM}
    return Turn([system, {"role": "user", "content": question}])


def _long(topic: str, place: str, rng: Random) -> Turn:
    text = _LONG.format(topic=topic, place=place, minutes=rng.randint(5, 45))
    return Turn([{"role": "user", "content": text}])


def builtin_scenarios() -> dict[str, Scenario]:
    """The built-in scenarios by name; `mixed` is 1/2 short, 1/3 medium and 1/6 long."""
    short, medium, long = _Prompt(_short), _Prompt(_medium), _Prompt(_long)
    mixed = Mixture([short, medium, long], [3, 2, 1])
    return {"short": short, "medium": medium, "long": long, "mixed": mixed}


def describe_validation_error(error: ValidationError) -> str:
    """The field and message of the first error."""
    first = choose_error(error)
    field_path = ".".join(str(part) for part in first["loc"])
    return ": ".join(filter(None, (field_path, first["msg"].lower())))


def read_messages(record: Mapping[str, Any], where: str) -> list[JSON]:
    """The `messages` of a record, each with a role, or its `prompt` as a single message.

    Raises ConfigurationError, starting with `where`, if there are none.
    """
    messages = record.get("messages")
    if messages is None and isinstance(record.get("prompt"), str):
        messages = [{"role": "user", "content": record["prompt"]}]
    if messages is None and "prompt" in record:
        kind = type(record["prompt"]).__name__
        raise ConfigurationError(f"{where}: prompt: expected a string, not {kind}")
    if messages == []:
        raise ConfigurationError(f"{where}: messages: the list is empty; add a user message")
    if messages is not None and not isinstance(messages, list):
        kind = type(messages).__name__
        raise ConfigurationError(f"{where}: messages: expected a list, not {kind}")
    if messages is None:
        found = ", ".join(shorten(str(key)) for key in list(record)[:8])
        raise ConfigurationError(
            f"{where}: expected messages, prompt or conversations; found {found or 'no field'}"
        )
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise ConfigurationError(f"{where}: message {number} has no role")
    return messages
