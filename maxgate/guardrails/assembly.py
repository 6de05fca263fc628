"""Build the guardrails from the settings; importing it needs the extra `guardrails`."""

from collections.abc import Callable, Mapping, Sequence

from maxgate.generation.backend import Backend, Embedder
from maxgate.guardrails.checks import Check, Checks
from maxgate.guardrails.layer import EmbeddingGuardrailLayer, GuardrailLayer, SharedRules
from maxgate.guardrails.placeholders import PLACEHOLDERS
from maxgate.guardrails.rules import CountDecision, RuleBook, build_rules
from maxgate.guardrails.settings import GuardrailRule, WebhookRule
from maxgate.guardrails.webhook import Webhook


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
    is_own_key: Callable[[str], bool],
    model_names: Mapping[str, str],
    count: CountDecision,
) -> Guardrails:
    """Build the guardrails; raises as build_rules does."""
    rules = RuleBook(build_rules(settings, is_own_key, model_names), PLACEHOLDERS)
    checks: dict[str, Check] = {
        rule.name: Webhook(rule) for rule in settings if isinstance(rule, WebhookRule)
    }
    return Guardrails(rules, checks, count)
