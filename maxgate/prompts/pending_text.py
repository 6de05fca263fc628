"""Text that arrives in pieces, read by generators that pause where it ends."""

from collections.abc import Generator
from typing import Final

import regex

Reading = Generator[None, None, None]

# What a string ends with, if it is the quote that it began with, and what escapes begin with.
STRING_STOP: Final = regex.compile(r"""["'\\]""")

# Longer than any head or key of a call; what has not become one by then is text.
_LONGEST: Final = 4096
_QUOTES: Final = "\"'"
_STRUCTURE: Final = regex.compile(r"""["'{}\[\](),]""")


class EndOfText(Exception):  # an event, not an error
    """There is no more text to come."""


class PendingText:
    """What has come and was not taken yet: `text` from `at` on.

    The readers are generators that yield where they need more than there is. After a yield,
    positions other than `at` are void. Raises EndOfText into them once no more can come.
    """

    def __init__(self) -> None:
        self.text = ""
        self.at = 0
        self.ended = False

    def add(self, text: str) -> None:
        """More text; what was taken before is forgotten."""
        self.text = self.text[self.at :] + text
        self.at = 0

    def more(self) -> Reading:
        """Wait for more."""
        if self.ended:
            raise EndOfText
        yield

    def at_least(self, characters: int) -> Reading:
        """Wait until so many are there."""
        while len(self.text) - self.at < characters:
            yield from self.more()

    def after(self, pattern: regex.Pattern[str]) -> int:
        """Where a pattern ends that is found here; here, where it is not."""
        found = pattern.match(self.text, self.at)
        return self.at if found is None else found.end()

    def skip(self, pattern: regex.Pattern[str]) -> Reading:
        """Take what matches, up to a character that does not."""
        while (end := self.after(pattern)) == len(self.text):
            yield from self.more()
        self.at = end

    def begun(self, pattern: regex.Pattern[str]) -> regex.Match[str] | None:
        """What the pattern matches here, or may match with more text: that is `partial`."""
        # (concurrent, partial) by position: by name they take longer than most matches.
        return pattern.match(self.text, self.at, len(self.text), None, True)

    def match(self, pattern: regex.Pattern[str]) -> Generator[None, None, regex.Match[str] | None]:
        """What the pattern matches here, as soon as it is sure; None where it cannot match."""
        while True:
            found = self.begun(pattern)
            if found is None or found.end() - self.at > _LONGEST:
                return None
            if not found.partial:
                return found
            yield from self.more()

    def raw_value(self, scanned: int = 0) -> Generator[None, None, str]:
        """The text of a value from here on, which stays there; it begins at `scanned` after it.

        It ends before a comma or a closing bracket, or with its own last bracket.
        """
        nesting = 0
        while True:
            yield from self.at_least(scanned + 1)
            found = _STRUCTURE.search(self.text, self.at + scanned)
            if found is None:
                scanned = len(self.text) - self.at
                continue
            scanned, sign = found.end() - self.at, found[0]
            if sign in _QUOTES:
                scanned = yield from self._end_of_string(sign, scanned)
            elif sign in "{[(":
                nesting += 1
            elif nesting == 0:
                return self.text[self.at : self.at + scanned - 1]
            elif sign != ",":
                nesting -= 1
                if nesting == 0:
                    return self.text[self.at : self.at + scanned]

    def _end_of_string(self, quote: str, scanned: int) -> Generator[None, None, int]:
        while True:
            yield from self.at_least(scanned + 1)
            stop = STRING_STOP.search(self.text, self.at + scanned)
            if stop is None:
                scanned = len(self.text) - self.at
                continue
            scanned = stop.end() - self.at + (stop[0] == "\\")
            if stop[0] == quote:
                return scanned
