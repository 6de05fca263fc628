"""Decisions of rules about one request, without its text."""

from collections import Counter
from typing import Final

from maxgate.generation.context import RequestContext
from maxgate.guardrails.rules import CountDecision, Rule
from maxgate.guardrails.settings import Direction

FAILED_OPEN: Final = "failed_open"
FAILED_CLOSED: Final = "failed_closed"


class Decisions:
    """Collects decisions of one direction, then reports them to the context and the metrics."""

    def __init__(self, direction: Direction, count: CountDecision) -> None:
        self.direction: Direction = direction
        self._count = count
        self._numbers: Counter[tuple[str, str]] = Counter()

    def note(self, rule: Rule, decision: str | None = None) -> None:
        """Count a decision, by default the action of the rule."""
        self._numbers[rule.name, decision or rule.settings.action] += 1

    def report(self, context: RequestContext) -> None:
        """Add what was noted since the last report, as `rule:direction:decision:number`."""
        for (rule, decision), number in self._numbers.items():
            context.decisions.append(f"{rule}:{self.direction}:{decision}:{number}")
            self._count(rule, self.direction, decision, number)
        self._numbers.clear()
