"""Verdicts on texts, and the interface to what gives them."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from maxgate.generation.catalog import ServedModel
from maxgate.generation.context import RequestContext
from maxgate.generation.request import Message

HAZARDS: Final[Mapping[str, str]] = {
    "S1": "Violent Crimes",
    "S2": "Non-Violent Crimes",
    "S3": "Sex-Related Crimes",
    "S4": "Child Sexual Exploitation",
    "S5": "Defamation",
    "S6": "Specialized Advice",
    "S7": "Privacy",
    "S8": "Intellectual Property",
    "S9": "Indiscriminate Weapons",
    "S10": "Hate",
    "S11": "Suicide & Self-Harm",
    "S12": "Sexual Content",
    "S13": "Elections",
    "S14": "Code Interpreter Abuse",
}
"""The categories of Llama Guard 3, after MLCommons' taxonomy of hazards."""


class Verdict(NamedTuple):
    """`hazards` are the categories of an unsafe text, in the model's order.

    `probability` is that of the text being unsafe, or 0 or 1 if the engine reports no logprobs.
    """

    is_unsafe: bool
    hazards: tuple[str, ...]
    probability: float


class Moderator(Protocol):
    """Judges texts with a model whose task is moderation."""

    async def judge(
        self, messages: Sequence[Message], model: ServedModel, context: RequestContext
    ) -> Verdict:
        """Judge the last message of a dialogue; raise GatewayError if there is no verdict."""
        ...
