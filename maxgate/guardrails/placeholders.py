"""Placeholders such as `<EMAIL_1>` in place of matches, and back."""

import re
from collections import Counter
from collections.abc import Iterable
from copy import deepcopy
from typing import Final, Self

from maxgate.guardrails.detector import Detector

_PATTERN: Final = r"<[0-9A-Z][0-9A-Z_]{0,70}_[0-9]{1,6}>"
_FORM: Final = re.compile(_PATTERN)

PLACEHOLDERS: Final = Detector("PLACEHOLDER", _PATTERN)
"""Finds everything that has the form of a placeholder."""


class Placeholders:
    """The placeholders of one request; equal values have the same one."""

    def __init__(self) -> None:
        self._by_value: dict[tuple[str, str], str] = {}
        self._values: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._reserved: set[str] = set()

    def __len__(self) -> int:
        return len(self._values)

    def reserve(self, texts: Iterable[str]) -> None:
        """Never use the placeholders that these texts already hold."""
        for text in texts:
            if "<" in text:
                self._reserved.update(_FORM.findall(text))

    def mask(self, label: str, value: str) -> str:
        """Return the placeholder of a value."""
        known = self._by_value.get((label, value))
        if known is not None:
            return known
        while True:
            self._counts[label] += 1
            placeholder = f"<{label}_{self._counts[label]}>"
            if placeholder not in self._reserved:
                break
        self._by_value[label, value] = placeholder
        self._values[placeholder] = value
        return placeholder

    def restore(self, placeholder: str) -> str:
        """Return the value of a placeholder, or the text itself if it is none."""
        return self._values.get(placeholder, placeholder)

    def fork(self) -> Self:
        """Return a copy that numbers further values without adding them here."""
        return deepcopy(self)


def make_label(rule_name: str) -> str:
    """Return the label of matches of a rule whose detectors have no name of their own."""
    return rule_name.upper().replace("-", "_")
