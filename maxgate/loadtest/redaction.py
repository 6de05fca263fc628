"""Remove credentials from texts that are printed or stored: the command, and servers' messages."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from maxgate.loadtest.messages import Target
from maxgate.loadtest.options import Options
from maxgate.net.server_url import hide_credentials

_MASK: Final = "***"
_SECRET_NAME: Final = re.compile(
    r"(?i)auth|api.?key|access.?key|token|secret|cookie|passw|credential|signature|-key$"
)
_MIN_SECRET_LENGTH: Final = 4
"""Shorter values would also match ordinary text."""


def is_secret(header: str) -> bool:
    """Whether a header of this name holds a credential."""
    return _SECRET_NAME.search(header) is not None


def find_secrets(targets: Iterable[Target]) -> set[str]:
    """The credentials that are sent to these servers."""
    return {secret for target in targets for secret in _find_in_headers(target.headers)}


def find_option_secrets(options: Options) -> set[str]:
    """The credentials in the options, whether they came from a flag or from the environment."""
    key = {options.api_key} if options.api_key else set()
    return key | set(_find_in_headers(options.headers))


def _find_in_headers(headers: Mapping[str, str]) -> Iterator[str]:
    """The values of secret headers, whole and without their scheme, such as `Bearer`."""
    for name, value in headers.items():
        if is_secret(name):
            yield from {value, value.rpartition(" ")[2]}


def redact(text: str, secrets: Iterable[str]) -> str:
    """The text with every secret replaced, the longest first."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _MIN_SECRET_LENGTH:
            text = text.replace(secret, _MASK)
    return text


def redact_command(command: Sequence[str], secrets: Iterable[str]) -> list[str]:
    """The arguments without credentials: those given, and user names and passwords in URLs."""
    short = {secret for secret in secrets if len(secret) < _MIN_SECRET_LENGTH}
    found = [redact(hide_credentials(part), secrets) for part in command]
    flags = ["", *found[:-1]]
    return [
        _MASK if part in short else _redact_flag(part, flag)
        for part, flag in zip(found, flags, strict=True)
    ]


def _redact_flag(part: str, flag: str) -> str:
    """Mask the value of --api-key, even if it is too short to be searched in texts."""
    if flag == "--api-key":
        return _MASK
    return f"--api-key={_MASK}" if part.startswith("--api-key=") else part
