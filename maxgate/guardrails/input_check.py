"""Apply the rules for the input to the texts of a request."""

from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Final

from maxgate.guardrails.decisions import Decisions
from maxgate.guardrails.errors import ContentBlocked
from maxgate.guardrails.placeholders import Placeholders
from maxgate.guardrails.rules import DirectionRules, Rule
from maxgate.guardrails.text_filter import Search, TextFilter, join_texts

MAX_SECONDS: Final = 2.0
"""Time for all texts of a request; only texts made for it, full of near misses, take so long."""


class TextChecker:
    """Applies rules to whole texts; an instance is a function for `change_texts`.

    Raises ContentBlocked if a text is refused.
    """

    def __init__(
        self, rules: DirectionRules, placeholders: Placeholders, decisions: Decisions
    ) -> None:
        self._rules = rules
        self._placeholders = placeholders
        self._decisions = decisions
        self._refused: tuple[Rule, str] | None = None
        self._masked: Rule | None = None
        self._deadline = monotonic() + MAX_SECONDS

    def __call__(self, text: str, param: str) -> str:
        """Return the text with matches masked."""
        for rule, length in self._rules.lengths:
            if len(text) > length.max_characters:
                self._decisions.note(rule)
                if rule.settings.action == "block":
                    found = f"has more than {length.max_characters} characters"
                    raise ContentBlocked(rule.name, found, param=param)
        if self._rules.observing:
            observer = observe(self._rules, self._decisions, self._is_expired)
            observer.feed(text, is_end=True)
        if not self._rules.acting:
            return text
        searches = [
            Search(rule.detectors, partial(self._replace, rule)) for rule in self._rules.acting
        ]
        text_filter = TextFilter(searches, self._rules.acting_screen, is_expired=self._is_expired)
        changed = join_texts(text_filter.feed(text, is_end=True))
        if text_filter.is_blocked:
            found = "takes too long to check" if self._is_expired() else "has too many matches"
            rule, found = self._refused or (self._rules.acting[0], found)
            raise ContentBlocked(rule.name, found, param=param)
        return changed

    def check_name(self, name: str, param: str) -> None:
        """Refuse a name with a match, also of a rule that masks."""
        if self(name, param) != name:
            rule = self._masked or self._rules.acting[0]
            raise ContentBlocked(rule.name, "is a name and cannot be masked", param=param)

    def _is_expired(self) -> bool:
        return monotonic() > self._deadline

    def _replace(self, rule: Rule, label: str, match: str) -> str | None:
        self._decisions.note(rule)
        if rule.settings.action == "mask":
            self._masked = rule
            return self._placeholders.mask(label, match)
        self._refused = rule, f"contains text that is not allowed ({label})"
        return None


def observe(
    rules: DirectionRules, decisions: Decisions, is_expired: Callable[[], bool] = lambda: False
) -> TextFilter:
    """Return a filter that only notes the matches of rules whose action is `log`."""

    def note(rule: Rule, _: str, match: str) -> str:
        decisions.note(rule)
        return match

    searches = [Search(rule.detectors, partial(note, rule)) for rule in rules.observing]
    return TextFilter(searches, rules.observing_screen, is_expired=is_expired)
