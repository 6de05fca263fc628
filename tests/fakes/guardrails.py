"""Guardrails around a scripted backend."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter
from typing_extensions import override

from maxgate.auth.api_key import is_well_formed
from maxgate.errors import GatewayError
from maxgate.generation.backend import Backend
from maxgate.generation.catalog import ServedModel
from maxgate.generation.chunk import Chunk
from maxgate.generation.context import RequestContext
from maxgate.generation.moderation import Moderator, Verdict
from maxgate.generation.request import GenerationRequest, Message
from maxgate.guardrails.assembly import Guardrails, assemble_guardrails
from maxgate.guardrails.settings import GuardrailRule
from maxgate.model_cards.card import ModelCard
from tests.fakes.requests import served_model

GUARD_CARD = ModelCard(
    name="guard", task="moderation", prompt="llama3", tokenizer="guard", context_length=8192
)


class FakeModerator(Moderator):
    """Gives the verdict, or raises it, and keeps what it judged."""

    def __init__(self, verdict: Verdict | GatewayError | None = None) -> None:
        self._verdict = verdict or Verdict(is_unsafe=False, hazards=(), probability=0.0)
        self.judged: list[tuple[Sequence[Message], RequestContext]] = []

    @override
    async def judge(
        self, messages: Sequence[Message], model: ServedModel, context: RequestContext
    ) -> Verdict:
        assert model.name == "guard"
        self.judged.append((messages, context))
        if isinstance(self._verdict, GatewayError):
            raise self._verdict
        return self._verdict


@dataclass
class Counts:
    """Decisions as metrics count them."""

    numbers: dict[tuple[str, str, str], int] = field(default_factory=dict)

    def __call__(self, rule: str, direction: str, decision: str, number: int) -> None:
        """Add to the number."""
        key = (rule, direction, decision)
        self.numbers[key] = self.numbers.get(key, 0) + number


def parse_rules(*rules: dict[str, Any]) -> list[GuardrailRule]:
    """Read rules as in the settings; they block unless they say otherwise."""
    given = [{"name": "rule", "action": "block", **rule} for rule in rules]
    return TypeAdapter(list[GuardrailRule]).validate_python(given)


def build_guardrails(
    *rules: dict[str, Any], counts: Counts | None = None, moderator: Moderator | None = None
) -> Guardrails:
    """Build the guardrails of these rules."""
    return assemble_guardrails(
        parse_rules(*rules),
        [GUARD_CARD],
        is_own_key=is_well_formed,
        count=counts or Counts(),
        moderator=moderator or FakeModerator(),
        find_model=served_model,
    )


async def run_guarded(
    inner: Backend, request: GenerationRequest, *rules: dict[str, Any], **options: Any
) -> list[Chunk]:
    """Return the chunks of a request with these rules, without those that hold nothing."""
    layer = build_guardrails(*rules, **options).wrap_backend(inner)
    async with aclosing(layer.stream(request)) as chunks:
        return [chunk async for chunk in chunks if chunk != Chunk(choice=chunk.choice)]
