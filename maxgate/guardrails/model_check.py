"""The rule that asks a moderation model."""

from collections.abc import Callable

from typing_extensions import override

from maxgate.generation.catalog import ServedModel
from maxgate.generation.moderation import Moderator
from maxgate.generation.request import Message
from maxgate.guardrails.checks import Check, Subject
from maxgate.guardrails.llama_guard import judge_apart
from maxgate.guardrails.settings import ModelRule

FindModel = Callable[[str], ServedModel]
"""Return the moderation model of a name; raise GatewayError if it is not served."""


class ModelCheck(Check):
    """Refuses what the model of a rule calls unsafe, in one of the rule's categories."""

    def __init__(self, rule: ModelRule, moderator: Moderator, find_model: FindModel) -> None:
        self._rule = rule
        self._moderator = moderator
        self._find_model = find_model

    @override
    async def is_unsafe(self, subject: Subject) -> bool:
        messages = subject.messages
        if subject.output is not None:
            messages = (*messages, Message("assistant", (subject.output,)))
        model = self._find_model(self._rule.model)
        verdict = await judge_apart(self._moderator, messages, model, subject.context)
        counted = set(self._rule.categories)
        # A verdict without categories is never ignored.
        is_counted = not counted or not verdict.hazards or not counted.isdisjoint(verdict.hazards)
        return verdict.is_unsafe and is_counted

    @override
    async def aclose(self) -> None:
        """Do nothing."""
