"""Commands of `maxgate` that run in the process of the test."""

import json
from collections.abc import Callable
from typing import Any

Run = Callable[..., tuple[int, str, str]]
"""Runs `maxgate` with these arguments; returns exit code, stdout and stderr."""


def read_json(run: Run, *arguments: str) -> Any:
    """Return the JSON that a command prints."""
    code, out, err = run(*arguments, "--json")
    assert code == 0, err
    return json.loads(out)
