"""The words of the command line to values; each raises ConfigurationError with what is wrong."""

import re
from typing import Any, Final

import orjson

from maxgate.errors import ConfigurationError
from maxgate.tools.loadtest.analysis.objectives import seconds

_NAME: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110, section 5.6.2
_VALUE: Final = r"[\t -~]*\Z"


def scenarios_of(text: str, *, sweep: bool) -> tuple[str, ...]:
    """Those that were named; else the three built-in ones, and for a sweep their mixture."""
    named = tuple(part.strip() for part in text.split(",") if part.strip())
    return named or (("mixed",) if sweep else ("short", "medium", "long"))


def time_of(text: str | None, flag: str) -> float | None:
    """Seconds; None where it was not given."""
    return None if text is None else seconds(text, flag)


def headers_of(lines: list[str]) -> dict[str, str]:
    """By name in lower case."""
    found = {}
    for line in lines:
        name, separator, value = line.partition(":")
        if not separator or not re.fullmatch(_NAME, name.strip()) or not re.match(_VALUE, value):
            raise ConfigurationError(f"--header {line!r}: expected NAME: VALUE")
        found[name.strip().lower()] = value.strip()
    return found


def object_of(text: str) -> dict[str, Any]:
    """The value of --body."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ConfigurationError(f"--body: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ConfigurationError("--body: expected an object such as {}")
    return value


def numbers_of(text: str, flag: str, *, whole: bool = False) -> list[float]:
    """Numbers above 0, with commas between."""
    pattern = r"[1-9][0-9]*" if whole else r"[0-9]*\.?[0-9]+"
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if any(not re.fullmatch(pattern, part) or float(part) <= 0 for part in parts):
        raise ConfigurationError(f"{flag} {text}: expected numbers above 0, such as 1,8,32")
    return [float(part) for part in parts]


def shard_of(text: str) -> tuple[int, int]:
    """I and N of I/N."""
    match = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
    if match is None or int(match[1]) >= int(match[2]):
        raise ConfigurationError(f"--shard {text}: expected I/N with I from 0 to N - 1")
    return int(match[1]), int(match[2])
