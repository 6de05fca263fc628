"""Write any text to a terminal or file whose encoding lacks some of its characters."""

import codecs
import sys
from typing import Final, TextIO

_HANDLER: Final = "maxgate.transliterate"
_REPLACEMENTS: Final = {
    "±": "~", "→": ">", "▲": "^", "▼": "v", "…": "~", "°": " ", "·": ".",
    "█": "#", "━": "=", "╌": "-", "─": "-", "│": "|", "▁": "_", "▂": "_", "▃": "-", "▄": "-",
    "▅": "=", "▆": "=", "▇": "#", "µ": "u",
    "\N{MULTIPLICATION SIGN}": "x", "\N{EN DASH}": "-", "≤": "<", "≥": ">", "•": "*",
    **dict.fromkeys("═┄", "-"), **dict.fromkeys("┃║╎┆", "|"),
    **dict.fromkeys("┌┐└┘├┤┬┴┼╭╮╰╯╞╡╪", "+"), **dict.fromkeys("▓▒", "#"), "░": ".",
}  # fmt: skip
"""One ASCII character each, so that columns stay aligned."""


def is_unicode(stream: TextIO) -> bool:
    """Whether the stream can encode block characters."""
    return (stream.encoding or "ascii").lower().replace("-", "").startswith("utf")


def accept_any_text() -> None:
    """Make standard output and error replace characters that they cannot encode.

    Without this, one such character ends the command with UnicodeEncodeError.
    """
    codecs.register_error(_HANDLER, _transliterate)
    for stream in (sys.stdout, sys.stderr):
        # Tests and embedding programs may replace the streams by others, such as StringIO.
        if hasattr(stream, "reconfigure") and not is_unicode(stream):
            stream.reconfigure(errors=_HANDLER)


def _transliterate(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_REPLACEMENTS.get(character, "?") for character in text), error.end
