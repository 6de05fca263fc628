"""The README says what the code does."""

import ast
import inspect
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from maxgate.cli.serve import serve
from maxgate.settings import Settings
from tests.conftest import ROOT

_FLAGS = {"engine_urls": "--engine-url", "cards": "--card"}


def docstrings(model: type[BaseModel]) -> dict[str, str]:
    """The text under each field."""
    body = ast.parse(inspect.getsource(model)).body[0].body  # type: ignore[attr-defined]
    return {
        field.target.id: text.value.value
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr)
    }


def rows(model: type[BaseModel] = Settings, prefix: str = "") -> list[list[str]]:
    """The cells of the table."""
    flat: list[list[str]] = []
    nested: list[list[str]] = []
    texts, flags = docstrings(model), inspect.signature(serve).parameters
    for name, field in model.model_fields.items():
        if isinstance(field.default, BaseModel):
            nested += rows(type(field.default), f"{name}.")
            continue
        flag = _FLAGS.get(name, "--" + name.replace("_", "-"))
        is_flag = not prefix and flag.removeprefix("--").replace("-", "_") in flags
        shown = f"`{flag}`" if is_flag else ""
        flat.append([f"`{prefix}{name}`", shown, _default(field.default), texts[name]])
    return flat + nested


def _default(value: Any) -> str:
    if value in (None, []):
        return ""
    return f"`{', '.join(value) if isinstance(value, list) else value}`"


def test_the_table_of_settings_is_the_code() -> None:
    readme = (ROOT / "README.md").read_text()
    table = re.search(r"<!-- settings:.*?-->\n(.*?)\n<!-- /settings -->", readme, re.DOTALL)
    assert table is not None
    lines = table[1].splitlines()[2:]
    assert [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines] == rows()


def test_every_link_of_the_documents_leads_somewhere() -> None:
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document}: {target}"


def test_every_decision_has_a_number_of_its_own() -> None:
    names = sorted(path.name for path in Path(ROOT / "docs" / "decisions").glob("*.md"))
    assert [name[:4] for name in names] == [f"{n:04d}" for n in range(1, len(names) + 1)]
