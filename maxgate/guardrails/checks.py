"""Rules that ask a service or a model for a verdict on a whole text."""

import asyncio
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import structlog

from maxgate.errors import GatewayError
from maxgate.generation.context import RequestContext
from maxgate.generation.request import Message
from maxgate.guardrails.decisions import FAILED_CLOSED, FAILED_OPEN, Decisions
from maxgate.guardrails.errors import ContentBlocked, GuardrailUnavailable
from maxgate.guardrails.rules import DirectionRules, Rule

_log = structlog.get_logger("guardrails")


class Subject(NamedTuple):
    """A dialogue to judge: its last message, or `output`, the response, if given."""

    messages: tuple[Message, ...]
    model: str
    context: RequestContext
    output: str | None = None


class CheckFailed(Exception):
    """No verdict could be had; the message has no text of the request."""


class Check(Protocol):
    """Judges texts."""

    async def is_unsafe(self, subject: Subject) -> bool:
        """Return the verdict; raise CheckFailed or GatewayError if there is none."""
        ...

    async def aclose(self) -> None:
        """Release all resources."""
        ...


class Checks:
    """All checks, by the name of their rule."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks

    async def find_violation(
        self, rules: DirectionRules, subject: Subject, decisions: Decisions
    ) -> Rule | None:
        """Return the first rule that refuses the text, in the order of the settings.

        Raises GuardrailUnavailable without a verdict, if the rule is `closed` on failure.
        """
        for rule, settings in rules.checks:
            try:
                async with asyncio.timeout(settings.timeout):
                    is_unsafe = await self._checks[rule.name].is_unsafe(subject)
            except (CheckFailed, GatewayError, TimeoutError) as error:
                # Errors of engines may quote the text.
                _log.warning("guardrail failed", rule=rule.name, reason=type(error).__name__)
                if settings.on_failure == "closed":
                    decisions.note(rule, FAILED_CLOSED)
                    raise GuardrailUnavailable(rule.name) from None
                decisions.note(rule, FAILED_OPEN)
                continue
            if is_unsafe:
                decisions.note(rule)
                if settings.action == "block":
                    return rule
        return None

    async def refuse(
        self, rules: DirectionRules, subject: Subject, decisions: Decisions, param: str
    ) -> None:
        """Raise ContentBlocked if a rule refuses the text, and as `find_violation` does."""
        rule = await self.find_violation(rules, subject, decisions)
        if rule is not None:
            raise ContentBlocked(rule.name, "has content that is not allowed", param=param)

    async def aclose(self) -> None:
        """Close all of them."""
        for check in self._checks.values():
            await check.aclose()
