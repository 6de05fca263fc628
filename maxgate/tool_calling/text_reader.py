"""Text that arrives in pieces, read by generators that pause at its current end."""

from collections.abc import Callable, Generator
from typing import Final

import regex

Reading = Generator[None, None, None]

# The quote that may end a string, or the start of an escape.
_STRING_STOP: Final = regex.compile(r"""["'\\]""")
_STRUCTURE: Final = regex.compile(r"""["'{}\[\](),]""")
_QUOTES: Final = "\"'"
# Longer than any start of a call; text that is still undecided by then is no call.
_MAX_PARTIAL_MATCH: Final = 4096


class EndOfText(Exception):  # an event, not an error
    """No more text will arrive."""


class PendingText:
    """Text that has arrived and was not taken yet: `text` from `at` on.

    The readers are generators that yield when they need more text; after a yield, positions other
    than `at` are invalid. Readers raise EndOfText once `ended` is set and they need more.
    """

    def __init__(self) -> None:
        self.text = ""
        self.at = 0
        self.ended = False

    def add(self, text: str) -> None:
        """Append text and drop what was taken."""
        self.text = self.text[self.at :] + text
        self.at = 0

    def wait(self) -> Reading:
        """Wait for more text."""
        if self.ended:
            raise EndOfText
        yield

    def wait_for(self, characters: int) -> Reading:
        """Wait until this many characters are available."""
        while len(self.text) - self.at < characters:
            yield from self.wait()

    def find_end(self, pattern: regex.Pattern[str]) -> int:
        """Return the end of the pattern's match at the current position, which may be empty."""
        found = pattern.match(self.text, self.at)
        return self.at if found is None else found.end()

    def skip(self, pattern: regex.Pattern[str]) -> Reading:
        """Take what matches, up to a character that does not."""
        while (end := self.find_end(pattern)) == len(self.text):
            yield from self.wait()
        self.at = end

    def match_partial(self, pattern: regex.Pattern[str]) -> regex.Match[str] | None:
        """Match the pattern here; the match is `partial` if it depends on more text."""
        # Positional arguments (concurrent, partial): keywords would cost more than most matches.
        return pattern.match(self.text, self.at, len(self.text), None, True)

    def search_partial(self, pattern: regex.Pattern[str], offset: int) -> regex.Match[str] | None:
        """Search from `offset` characters ahead; see `match_partial` for `partial`."""
        return pattern.search(self.text, self.at + offset, len(self.text), None, True)

    def match(self, pattern: regex.Pattern[str]) -> Generator[None, None, regex.Match[str] | None]:
        """Match the pattern here as soon as the match is certain; None if it cannot match."""
        while True:
            found = self.match_partial(pattern)
            if found is None or found.end() - self.at > _MAX_PARTIAL_MATCH:
                return None
            if not found.partial:
                return found
            yield from self.wait()

    def read_raw_value(self, offset: int = 0) -> Generator[None, None, str]:
        """Return the text up to the end of the value that starts `offset` characters ahead.

        The value ends before a comma or closing bracket, or with its own last bracket. Nothing is
        taken.
        """
        nesting = 0
        while True:
            yield from self.wait_for(offset + 1)
            found = _STRUCTURE.search(self.text, self.at + offset)
            if found is None:
                offset = len(self.text) - self.at
                continue
            offset, sign = found.end() - self.at, found[0]
            if sign in _QUOTES:
                offset = yield from self._find_string_end(sign, offset)
            elif sign in "{[(":
                nesting += 1
            elif nesting == 0:
                return self.text[self.at : self.at + offset - 1]
            elif sign != ",":
                nesting -= 1
                if nesting == 0:
                    return self.text[self.at : self.at + offset]

    def _find_string_end(self, quote: str, offset: int) -> Generator[None, None, int]:
        while True:
            yield from self.wait_for(offset + 1)
            stop = _STRING_STOP.search(self.text, self.at + offset)
            if stop is None:
                offset = len(self.text) - self.at
                continue
            offset = stop.end() - self.at + (stop[0] == "\\")
            if stop[0] == quote:
                return offset


_ESCAPES: Final = {
    "n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "/": "/", "\\": "\\", "'": "'", '"': '"',
    "\n": "",
}  # fmt: skip
_HEX_DIGITS: Final = {"x": 2, "u": 4, "U": 8}
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"


class StringReader:
    """Takes strings from the pending text and resolves their escapes."""

    def __init__(self, pending: PendingText) -> None:
        self._in = pending

    def read_rest(self, quote: str, add: Callable[[str], object]) -> Reading:
        """Take the rest of a string up to its closing quote; pass it to `add` piece by piece."""
        while True:
            stop = _STRING_STOP.search(self._in.text, self._in.at)
            end = len(self._in.text) if stop is None else stop.start()
            if end > self._in.at:
                add(self._in.text[self._in.at : end])
            self._in.at = end
            if stop is None:
                yield from self._in.wait()
            elif stop[0] == "\\":
                add((yield from self._read_escape()))
            else:
                self._in.at += 1
                if stop[0] == quote:
                    return
                add(stop[0])

    def _read_escape(self) -> Generator[None, None, str]:
        yield from self._in.wait_for(2)
        letter = self._in.text[self._in.at + 1]
        if letter not in _HEX_DIGITS:
            self._in.at += 2
            return _ESCAPES.get(letter, "\\" + letter)
        code = yield from self._read_code_point()
        if code is None:
            self._in.at += 2
            return "\\" + letter
        if 0xD800 <= code < 0xDC00 and letter == "u":
            return (yield from self._read_low_surrogate(code))
        return _REPLACEMENT if 0xD800 <= code < 0xE000 or code > 0x10FFFF else chr(code)

    def _read_code_point(self) -> Generator[None, None, int | None]:
        # The position is at a backslash and a letter. Nothing is taken unless digits follow.
        length = _HEX_DIGITS[self._in.text[self._in.at + 1]]
        yield from self._in.wait_for(2 + length)
        digits = self._in.text[self._in.at + 2 : self._in.at + 2 + length]
        if not all(digit in "0123456789abcdefABCDEF" for digit in digits):
            return None
        self._in.at += 2 + length
        return int(digits, 16)

    def _read_low_surrogate(self, high: int) -> Generator[None, None, str]:
        # JSON writes a character beyond U+FFFF as two escapes.
        yield from self._in.wait_for(1)
        if self._in.text[self._in.at] != "\\":
            return _REPLACEMENT
        yield from self._in.wait_for(2)
        if self._in.text[self._in.at + 1] != "u":
            return _REPLACEMENT
        low = yield from self._read_code_point()
        if low is not None and 0xDC00 <= low < 0xE000:
            return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))
        if low is not None:
            self._in.at -= 6
        return _REPLACEMENT
