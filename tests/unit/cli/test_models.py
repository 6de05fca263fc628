"""`maxgate models prepare`: the target directory."""

from pathlib import Path

import pytest

from maxgate.cli.models import resolve_target

MODELS = Path("/data/models")


@pytest.mark.parametrize(
    ("out", "target"),
    [
        (None, MODELS / "name"),
        ("bare", MODELS / "bare"),
        ("./here", Path("here")),
        ("some/where", Path("some/where")),
        ("/else/where", Path("/else/where")),
        ("~/mine", Path.home() / "mine"),
    ],
)
def test_resolve_target(out: str | None, target: Path) -> None:
    """A bare name is in the models folder; everything else is a path."""
    assert resolve_target(out, "name", MODELS) == target
