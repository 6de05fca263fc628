"""Build the guardrails from the settings; importing it needs the extra `guardrails`."""

from collections.abc import Callable, Mapping, Sequence

from maxgate.errors import ConfigurationError
from maxgate.generation.backend import Backend, Embedder
from maxgate.generation.moderation import Moderator
from maxgate.guardrails.checks import Check, Checks
from maxgate.guardrails.layer import EmbeddingGuardrailLayer, GuardrailLayer, SharedRules
from maxgate.guardrails.model_check import FindModel, ModelCheck
from maxgate.guardrails.placeholders import PLACEHOLDERS
from maxgate.guardrails.rules import CountDecision, RuleBook, build_rules
from maxgate.guardrails.settings import GuardrailRule, ModelRule, WebhookRule
from maxgate.guardrails.webhook import Webhook
from maxgate.model_cards.card import ModelCard, map_names


class Guardrails:
    """The layers of all rules, and what they hold."""

    def __init__(self, rules: RuleBook, checks: Mapping[str, Check], count: CountDecision) -> None:
        self._checks = Checks(checks)
        self._shared = SharedRules(rules, self._checks, count)

    def wrap_backend(self, inner: Backend) -> Backend:
        """Put the layer around a backend."""
        return GuardrailLayer(inner, self._shared)

    def wrap_embedder(self, inner: Embedder) -> Embedder:
        """Put the layer around an embedder."""
        return EmbeddingGuardrailLayer(inner, self._shared)

    async def aclose(self) -> None:
        """Close connections to services."""
        await self._checks.aclose()


def assemble_guardrails(
    settings: Sequence[GuardrailRule],
    cards: Sequence[ModelCard],
    *,
    is_own_key: Callable[[str], bool],
    count: CountDecision,
    moderator: Moderator,
    find_model: FindModel,
) -> Guardrails:
    """Build the guardrails; `is_own_key` verifies maxgate's keys, `count` counts in metrics.

    Raises ConfigurationError as build_rules does, and for rules whose model is not for moderation.
    """
    names = map_names(cards)
    rules = RuleBook(build_rules(settings, is_own_key, names), PLACEHOLDERS)
    checks: dict[str, Check] = {}
    for index, rule in enumerate(settings):
        if isinstance(rule, WebhookRule):
            checks[rule.name] = Webhook(rule)
        elif isinstance(rule, ModelRule):
            if not any(c.task == "moderation" and rule.model in c.names for c in cards):
                raise ConfigurationError(
                    f"setting guardrails[{index}]: rule {rule.name!r}: no model card of the name "
                    f"{rule.model!r} has task: moderation; write one (docs/model-cards.md)"
                )
            checks[rule.name] = ModelCheck(rule, moderator, find_model)
    return Guardrails(rules, checks, count)
