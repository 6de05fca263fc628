"""Split a JSON array into its elements without holding the whole array in memory."""

import json
from collections.abc import Iterator
from typing import Final

from maxgate.errors import ConfigurationError

MAX_RECORD_BYTES: Final = 32 * 2**20
"""Maximum size of one line or record: parsed JSON needs up to 20 times as much memory."""


class ArrayScanner:
    """Splits the text of a JSON array into the texts of its elements."""

    _SPACE: Final = " \t\r\n"

    def __init__(self, name: str, pieces: Iterator[str]) -> None:
        self._name, self._pieces = name, pieces
        self._text, self._at = "", 0
        self._decoder = json.JSONDecoder()

    def split(self) -> Iterator[str]:
        """Yield the text of each element. Raises ConfigurationError for invalid JSON."""
        self._skip("[", 0)
        if self._peek() == "]":
            return
        number = 1
        while True:
            yield self._read_element(number)
            if self._peek() == "]":
                return
            self._skip(",", number)
            number += 1

    def _read_element(self, number: int) -> str:
        self._peek()
        while True:
            try:
                _, end = self._decoder.raw_decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                # The element may continue in the next piece.
                if not isinstance(error, RecursionError) and self._extend():
                    continue
                reason = getattr(
                    error, "msg", "nested too deeply, or a number with too many digits"
                )
                raise ConfigurationError(
                    f"{self._name}: record {number}: invalid or truncated JSON ({reason})"
                ) from error
            # A number may continue in the next piece.
            if end == len(self._text) and self._extend():
                continue
            text = self._text[self._at : end]
            self._at = end
            return text

    def _skip(self, wanted: str, number: int) -> None:
        found = self._peek()
        if found != wanted:
            shown = repr(found) if found else "the end of the file"
            raise ConfigurationError(
                f"{self._name}: expected {wanted!r} after record {number}, found {shown}"
            )
        self._at += 1

    def _peek(self) -> str:
        """The next character that is not space; empty at the end of the file."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in self._SPACE:
                    return self._text[self._at]
                self._at += 1
            if not self._extend():
                return ""

    def _extend(self) -> bool:
        """Drop the text before the position and read as much again; False at the end of the file.

        Doubling keeps the time linear for a large element, which is decoded again each time.
        """
        left = self._text[self._at :]
        pieces, size = [left], 0
        while size <= len(left) and (piece := next(self._pieces, None)) is not None:
            pieces.append(piece)
            size += len(piece)
        if not size:
            return False
        self._text, self._at = "".join(pieces), 0
        if len(self._text) > MAX_RECORD_BYTES:
            raise ConfigurationError(
                f"{self._name}: a record is longer than {MAX_RECORD_BYTES // 2**20} MiB"
            )
        return True
