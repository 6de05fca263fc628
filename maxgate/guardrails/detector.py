"""Find passages in texts that arrive in pieces."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import re2

from maxgate.guardrails.tails import derive_tail, remove_groups

MAX_MATCH: Final = 1000
"""Characters after which a passage counts as a match if it still may become one."""

CONTEXT: Final = 32
"""Characters before a passage that decide whether it is a match."""

_MAX_MEMORY: Final = 64 * 2**20


class Match(NamedTuple):
    """A passage of a text, from `start` to `end`."""

    start: int
    end: int


Validate = Callable[[str, int, int], int | None]
"""Return the end of the match that starts with this candidate, or None if there is none.

The arguments are a text, and the candidate's start and end in it.
"""


class Detector:
    """Finds the matches of a regular expression that `validate` confirms.

    A match that is validated starts a word. It is group 1 if `group` is 1; what follows it is only
    context. `label` names it in placeholders. `max_length` bounds the text that is held back.

    Raises ValueError for an invalid expression.
    """

    def __init__(
        self,
        label: str,
        pattern: str,
        validate: Validate | None = None,
        *,
        group: int = 0,
        max_length: int = MAX_MATCH,
    ) -> None:
        self.label = label
        self.max_length = max_length
        self.pattern = remove_groups(pattern)
        self.tail = derive_tail(pattern)
        self._pattern = compile_pattern(pattern)
        self._tail = compile_pattern(self.tail)
        self._validate = validate
        self._group = group

    def scan(self, text: str, start: int, *, is_end: bool) -> tuple[Match | None, int]:
        """Return the first match from `start` on that more text cannot change, if there is one.

        Returns also the position of the first passage that may still become a match, the length of
        the text if there is none. With `is_end`, no more text comes.
        """
        undecided = len(text) if is_end else self._tail.search(text, start).start()
        at = start
        while at < undecided:
            found = self._pattern.search(text, at)
            if found is None or found.start() >= undecided:
                break
            first, last = found.span(self._group)
            end = last if self._validate is None else self._validate(text, first, last)
            if end is not None and end > first:
                return Match(first, end), undecided
            at = first + 1
            while self._validate is not None and not is_word_start(text, at):
                at += 1  # no match that is validated starts inside of a word
        return None, undecided


class Screen:
    """Tells for several detectors at once that there is no match, which is the usual case.

    Raises ValueError if they are too large together.
    """

    def __init__(self, detectors: Sequence[Detector]) -> None:
        self.max_length = min([detector.max_length for detector in detectors], default=MAX_MATCH)
        self._pattern = compile_pattern(_join([detector.pattern for detector in detectors]))
        self._tail = compile_pattern(_join([detector.tail for detector in detectors]))

    def find_undecided(self, text: str, start: int, *, is_end: bool) -> int | None:
        """Return the first position where a match may still begin; None if there may be one now.

        It is the length of the text if there is no such position.
        """
        if len(text) - start >= self.max_length or self._pattern.search(text, start) is not None:
            return None
        return len(text) if is_end else self._tail.search(text, start).start()


def _join(patterns: Sequence[str]) -> str:
    return "|".join([f"(?:{pattern})" for pattern in patterns]) or r"\z"


def compile_pattern(pattern: str) -> "re2._Regexp":
    """Compile an expression; raise ValueError if it is invalid or too large."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MAX_MEMORY
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0]
        raise ValueError(reason.decode() if isinstance(reason, bytes) else reason) from error


def is_word_start(text: str, start: int) -> bool:
    """Whether no letter or digit precedes the position."""
    return start == 0 or start > len(text) or not text[start - 1].isalnum()


def validate_word(text: str, start: int, end: int) -> int | None:
    """Accept a match that starts a word; see Validate."""
    return end if is_word_start(text, start) else None


WORD_END: Final = r"(?:[^\pL\pN]|\z)"
"""Expression for what follows a whole word."""


def build_word_detector(words: Sequence[str], label: str, *, case_sensitive: bool) -> Detector:
    """Build the detector of whole words and phrases; white space in them matches any."""
    ordered = sorted(words, key=len, reverse=True)  # the first alternative wins
    choices = "|".join([r"\s+".join(map(re2.escape, word.split())) for word in ordered])
    flags = "" if case_sensitive else "(?i)"
    return Detector(label, f"{flags}({choices}){WORD_END}", validate_word, group=1)
