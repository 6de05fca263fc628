"""Flags that several commands take, and flags as environment variables.

So workers see them, and settings have one way in.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from maxgate.settings import PREFIX

CardOption = Annotated[
    list[Path] | None,
    typer.Option(help="Model card or folder of cards; repeatable.", show_default="models/"),
]
ConfigOption = Annotated[Path | None, typer.Option(help="YAML file with settings.")]
EngineUrlOption = Annotated[
    list[str] | None,
    typer.Option(help="Where an engine is; repeatable.", show_default="http://localhost:8080"),
]


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
