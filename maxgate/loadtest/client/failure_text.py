"""The reason that a server gives for a failed request, as one bounded line of text."""

import re
from typing import Final

import orjson

MAX_CHARACTERS: Final = 300
MAX_KINDS: Final = 12
_MARKUP: Final = re.compile(r"(?is)<(script|style)\b.*?</\1>|<[^>]*>")


def extract_message(body: bytes) -> str:
    """The message of an OpenAI error, or of similar JSON, otherwise the text of the body."""
    text = body.decode(errors="replace")
    try:
        text = _find_message(orjson.loads(body)) or text
    except orjson.JSONDecodeError:
        text = _MARKUP.sub(" ", text)
    printable = "".join(c if c.isprintable() else " " for c in text)
    line = " ".join(printable.split())
    return line if len(line) <= MAX_CHARACTERS else line[: MAX_CHARACTERS - 3] + "..."


def _find_message(value: object) -> str | None:
    """The text under `error`, `message` or `detail`, as OpenAI, FastAPI and others nest it."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value:
        return _find_message(value[0])
    if isinstance(value, dict):
        for name in ("error", "message", "msg", "detail"):
            if found := _find_message(value.get(name)):
                return found
    return None
