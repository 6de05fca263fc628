"""The scenarios that need no file.

Lengths are those of the Llama 3 tokenizer: about 10, about 30 with a system message, about 100. The
topic is drawn anew for each request, so that a prefix cache has no more to find than in real use.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from maxgate.tools.loadtest.scenarios.scenario import Mixed, Scenario, Turn

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


class _Prompt:
    live_answers = False
    arrivals = None

    def __init__(self, write: Callable[[str, str, Random], Turn]) -> None:
        self._write = write

    def conversation(self, index: int, rng: Random) -> Sequence[Turn]:  # noqa: ARG002
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
    """By name; `mixed` has half short, a third medium and the rest long ones."""
    short, medium, long = _Prompt(_short), _Prompt(_medium), _Prompt(_long)
    mixed = Mixed([short, medium, long], [3, 2, 1])
    return {"short": short, "medium": medium, "long": long, "mixed": mixed}
