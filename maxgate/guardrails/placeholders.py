"""Placeholders such as `<EMAIL_1>` in place of matches, and back."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from maxgate.guardrails.detector import Detector

_PATTERN: Final = r"<[0-9A-Z][0-9A-Z_]{0,70}_[0-9]{1,6}>"
_FORM: Final = re.compile(_PATTERN)

PLACEHOLDERS: Final = Detector("PLACEHOLDER", _PATTERN)
"""Finds everything that has the form of a placeholder."""


@dataclass(slots=True)
class Placeholders:
    """The placeholders of one request; equal values have the same one."""

    by_value: dict[tuple[str, str], str] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    reserved: set[str] = field(default_factory=set)

    def fork(self) -> "Placeholders":
        """Return a copy that numbers further values without adding them here."""
        return Placeholders(
            dict(self.by_value), dict(self.values), Counter(self.counts), self.reserved
        )

    def __len__(self) -> int:
        return len(self.values)

    def reserve(self, texts: Iterable[str]) -> None:
        """Never use the placeholders that these texts already hold."""
        for text in texts:
            if "<" in text:
                self.reserved.update(_FORM.findall(text))

    def mask(self, label: str, value: str) -> str:
        """Return the placeholder of a value."""
        known = self.by_value.get((label, value))
        if known is not None:
            return known
        while True:
            self.counts[label] += 1
            placeholder = f"<{label}_{self.counts[label]}>"
            if placeholder not in self.reserved:
                break
        self.by_value[label, value] = placeholder
        self.values[placeholder] = value
        return placeholder

    def restore(self, placeholder: str) -> str:
        """Return the value of a placeholder, or the text itself if it is none."""
        return self.values.get(placeholder, placeholder)


def make_label(rule_name: str) -> str:
    """Return the label of matches of a rule whose detectors have no name of their own."""
    return rule_name.upper().replace("-", "_")
