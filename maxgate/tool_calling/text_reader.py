"""Text that arrives in pieces, read by generators that pause where it ends."""

from collections.abc import Callable, Generator
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


_ESCAPES: Final = {
    "n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "/": "/", "\\": "\\", "'": "'", '"': '"',
    "\n": "",
}  # fmt: skip
_HEX_DIGITS: Final = {"x": 2, "u": 4, "U": 8}
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"


class StringReader:
    """Takes strings from the pending text, with their escapes resolved."""

    def __init__(self, pending: PendingText) -> None:
        self._in = pending

    def rest(self, quote: str, add: Callable[[str], object]) -> Reading:
        """Take the rest of a string up to its closing quote, given to `add` piece by piece."""
        while True:
            stop = STRING_STOP.search(self._in.text, self._in.at)
            end = len(self._in.text) if stop is None else stop.start()
            if end > self._in.at:
                add(self._in.text[self._in.at : end])
            self._in.at = end
            if stop is None:
                yield from self._in.more()
            elif stop[0] == "\\":
                add((yield from self._escape()))
            else:
                self._in.at += 1
                if stop[0] == quote:
                    return
                add(stop[0])

    def _escape(self) -> Generator[None, None, str]:
        yield from self._in.at_least(2)
        letter = self._in.text[self._in.at + 1]
        if letter not in _HEX_DIGITS:
            self._in.at += 2
            return _ESCAPES.get(letter, "\\" + letter)
        code = yield from self._hex_code()
        if code is None:
            self._in.at += 2
            return "\\" + letter
        if 0xD800 <= code < 0xDC00 and letter == "u":
            return (yield from self._pair(code))
        return _REPLACEMENT if 0xD800 <= code < 0xE000 or code > 0x10FFFF else chr(code)

    def _hex_code(self) -> Generator[None, None, int | None]:
        # From here: a backslash, a letter, and digits, which are taken only if they are digits.
        length = _HEX_DIGITS[self._in.text[self._in.at + 1]]
        yield from self._in.at_least(2 + length)
        digits = self._in.text[self._in.at + 2 : self._in.at + 2 + length]
        if not all(digit in "0123456789abcdefABCDEF" for digit in digits):
            return None
        self._in.at += 2 + length
        return int(digits, 16)

    def _pair(self, high: int) -> Generator[None, None, str]:
        # JSON writes characters beyond U+FFFF as two escapes.
        yield from self._in.at_least(1)
        if self._in.text[self._in.at] != "\\":
            return _REPLACEMENT
        yield from self._in.at_least(2)
        if self._in.text[self._in.at + 1] != "u":
            return _REPLACEMENT
        low = yield from self._hex_code()
        if low is not None and 0xDC00 <= low < 0xE000:
            return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))
        if low is not None:
            self._in.at -= 6
        return _REPLACEMENT
