"""Bounding what a body is made of, before it is parsed.

A parser's time and memory go with the number of values, not with the bytes: `[[],[],[]` costs a
hundred times what a text of the same size does.
"""

from typing import Final

from maxgate.errors import RequestTooLarge

MOST_PARTS: Final = 60_000
"""Arrays, objects and fields of objects together."""
MOST_VALUES: Final = 1_000_000
_SMALLEST: Final = 2 * MOST_PARTS  # `[]` has two bytes, and nothing else has fewer
_ALL: Final = bytes(range(256))
_TEXT: Final = _ALL.translate(None, b"[{:,")
_TEXT_IN_QUOTES: Final = _ALL.translate(None, b'"[{:,')


def check_structure(json: bytes) -> None:
    """Raise RequestTooLarge where JSON has more than MOST_PARTS parts or MOST_VALUES values.

    What is in strings does not count. Bodies that are too short for so many are not looked into.
    """
    if len(json) <= _SMALLEST or _fits(json.translate(None, _TEXT)):
        return
    if not _fits(structure(json)):
        raise RequestTooLarge(
            f"The body of the request has more than {MOST_PARTS} arrays, objects and fields, or "
            f"more than {MOST_VALUES} values."
        )


def structure(json: bytes) -> bytes:
    """The opening brackets, colons and commas that are not in strings, in order."""
    # Pairs of backslashes go first: the quote in \\" ends its string, the one in \" does not.
    unescaped = json.replace(rb"\\", b"").replace(rb"\"", b"")
    return b"".join(unescaped.translate(None, _TEXT_IN_QUOTES).split(b'"')[::2])


def _fits(marks: bytes) -> bool:
    commas = marks.count(b",")
    return len(marks) - commas <= MOST_PARTS and commas < MOST_VALUES
