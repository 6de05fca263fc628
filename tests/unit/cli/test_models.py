"""`maxgate models`: where a prepared model is put."""

from pathlib import Path

import pytest

from maxgate.cli.models import prepared_at

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
def test_a_bare_name_is_put_beside_the_others(out: str | None, target: Path) -> None:
    assert prepared_at(out, "name", MODELS) == target
