"""The documentation matches the code."""

import ast
import inspect
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from maxgate.cli.serve import serve
from maxgate.settings import Settings
from maxgate.settings_names import OLD_NAMES
from tests.conftest import ROOT

FLAGS = {
    "server.host": "--host",
    "server.port": "--port",
    "server.workers": "--workers",
    "engine.mode": "--engine",
    "engines": "--engine-url",
    "cards": "--card",
    "telemetry.log_format": "--log-format",
    "telemetry.log_level": "--log-level",
}


def read_docstrings(model: type[BaseModel]) -> dict[str, str]:
    """Read the docstring below each field."""
    body = ast.parse(inspect.getsource(model)).body[0].body  # type: ignore[attr-defined]
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr)
    }


def build_rows(model: type[BaseModel] = Settings, prefix: str = "") -> list[list[str]]:
    """Build the cells of the table of settings."""
    top: list[list[str]] = []
    sections: list[list[str]] = []
    texts = read_docstrings(model)
    for field_name, field in model.model_fields.items():
        name = prefix + field_name
        if isinstance(field.default, BaseModel):
            sections += build_rows(type(field.default), f"{name}.")
            continue
        flag = f"`{FLAGS[name]}`" if name in FLAGS else ""
        top.append([f"`{name}`", flag, format_default(field.default), texts[field_name]])
    return top + sections


def format_default(value: Any) -> str:
    """Format a default as in the table; empty if there is none."""
    if value in (None, []):
        return ""
    return f"`{', '.join(item.url for item in value) if isinstance(value, list) else value}`"


def read_table(name: str) -> list[list[str]]:
    """Read the cells of a table that is marked by comments in docs/settings.md."""
    text = (ROOT / "docs" / "settings.md").read_text()
    table = re.search(rf"<!-- {name}:.*?-->\n(.*?)\n<!-- /{name} -->", text, re.DOTALL)
    assert table is not None
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table[1].splitlines()[2:]]


def test_settings() -> None:
    """docs/settings.md lists every setting with its flag, default and text."""
    assert read_table("settings") == build_rows()


def test_old_settings() -> None:
    """docs/settings.md lists every old name."""
    assert read_table("old names") == [[f"`{old}`", f"`{new}`"] for old, new in OLD_NAMES.items()]


def test_flags() -> None:
    """The flags in the table are those of `maxgate serve`."""
    parameters = {"--" + name.replace("_", "-") for name in inspect.signature(serve).parameters}
    assert parameters == {"--config", *FLAGS.values()}


@pytest.mark.parametrize(
    "document",
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_links(document: Path) -> None:
    """Every relative link leads to a file."""
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), target


def test_decisions() -> None:
    """Decisions are numbered without gaps."""
    names = sorted(path.name for path in Path(ROOT / "docs" / "decisions").glob("*.md"))
    assert [name[:4] for name in names] == [f"{n:04d}" for n in range(1, len(names) + 1)]
