"""Flags as environment variables, so that workers see them and settings have one way in."""

import os
from collections.abc import Sequence
from pathlib import Path

from maxgate.settings import PREFIX


def export_flags(**flags: object) -> None:
    """Set MAXGATE_NAME for every flag that was given; what was not given stays as it is."""
    for name, value in flags.items():
        if value is None or value == []:
            continue
        os.environ[PREFIX + name.upper()] = _text(value)


def _text(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(_text(item) for item in value)
    # A worker may start in another folder.
    return str(value.expanduser().absolute()) if isinstance(value, Path) else str(value)
