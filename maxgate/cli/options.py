"""Options shared by several commands, and flags as environment variables.

Workers and engine supervisors inherit the environment, so flags reach them too.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from maxgate.settings_names import OLD_NAMES, to_variable

CardOption = Annotated[
    list[Path] | None,
    typer.Option(help="Model card or folder of cards; repeatable.", show_default="models/"),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(help="YAML file with settings.", show_default="maxgate.yaml if it exists"),
]
EngineUrlOption = Annotated[
    list[str] | None,
    typer.Option(help="URL of an engine; repeatable.", show_default="http://localhost:8080"),
]


def export_flags(flags: Mapping[str, object]) -> None:
    """Export flags as environment variables; None and empty lists leave the variable as it is.

    `flags` maps settings, such as `server.port`, to values. A flag replaces every variable of its
    setting: upper or lower case, new name or old.
    """
    for name, value in flags.items():
        if value is None or value == []:
            continue
        old_names = [old for old, new in OLD_NAMES.items() if new == name]
        replaced = {to_variable(one) for one in (name, *old_names)}
        for variable in [one for one in os.environ if one.upper() in replaced]:
            del os.environ[variable]
        os.environ[to_variable(name)] = _format(value)


def _format(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(_format(item) for item in value)
    # A worker may start in another folder.
    return str(value.expanduser().absolute()) if isinstance(value, Path) else str(value)
