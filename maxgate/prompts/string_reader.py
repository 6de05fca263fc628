"""Reading strings, as JSON and Python write them, as they arrive."""

from collections.abc import Callable, Generator
from typing import Final

from maxgate.prompts.pending_text import STRING_STOP, PendingText, Reading

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
