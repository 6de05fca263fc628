"""The documentation matches the code."""

import ast
import inspect
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from maxgate.cli.ready_banner import EXAMPLES
from maxgate.cli.serve import serve
from maxgate.model_cards.card import ModelCard
from maxgate.model_cards.loader import get_section
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
    items = value if isinstance(value, list) else [value]
    return ", ".join(f"`{getattr(item, 'url', item)}`" for item in items)


def read_table(name: str, page: str = "settings.md") -> list[list[str]]:
    """Read the cells of a table that is marked by comments in a page of docs/."""
    text = (ROOT / "docs" / page).read_text()
    table = re.search(rf"<!-- {name}:.*?-->\n(.*?)\n<!-- /{name} -->", text, re.DOTALL)
    assert table is not None
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table[1].splitlines()[2:]]


def test_settings() -> None:
    """docs/settings.md lists every setting with its flag, default and text."""
    assert read_table("settings") == build_rows()


def test_old_settings() -> None:
    """docs/settings.md lists every old name."""
    assert read_table("old names") == [[f"`{old}`", f"`{new}`"] for old, new in OLD_NAMES.items()]


def build_card_rows(model: type[BaseModel] = ModelCard, prefix: str = "") -> list[list[str]]:
    """Build the cells of the table of card fields."""
    rows: list[list[str]] = []
    texts = read_docstrings(model)
    for name, field in model.model_fields.items():
        section = get_section(field)
        if field.is_required():
            default = "required"
        else:
            default = "" if section or field.default in ("", ()) else format_default(field.default)
        rows.append([f"`{prefix}{name}`", default, texts[name]])
        if section is not None:
            rows += build_card_rows(section, f"{prefix}{name}.")
    return rows


def test_card_fields() -> None:
    """docs/model-cards.md lists every field of a model card with its default and text."""
    assert read_table("fields", "model-cards.md") == build_card_rows()


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


def test_first_example() -> None:
    """The first curl command of the README is the one that `make run` prints."""
    path, body = EXAMPLES["chat"]
    assert f"{path} -H 'Content-Type: application/json' \\\n      -d '{body}'" in (
        (ROOT / "README.md").read_text()
    )


@pytest.mark.parametrize("name", ["README.md", "docs/tools.md", "docs/structured-output.md"])
def test_certain_examples(name: str) -> None:
    """Every example of a chat request samples greedily and limits its response."""
    text = (ROOT / name).read_text()
    examples = re.split(r"/v1/chat/completions -H|OpenAI\(base_url", text)[1:]
    assert len(examples) > 1
    for example in examples:
        assert re.search(r'temperature"?[:=] ?0\b', example), example
        assert re.search(r'max_tokens"?[:=] ?\d', example), example
