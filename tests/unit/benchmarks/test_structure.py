"""Measuring the structure of a package."""

import ast
from pathlib import Path

import pytest

from benchmarks.structure import (
    count_single_importers,
    format_table,
    locate,
    nesting_depth,
    percentiles,
    scan_module,
    scan_tree,
    summarize,
)

FIRST = '''"""First module."""

from typing import Any

from pack import second
from pack.deep.third import once as _once


class Shape:
    """A shape."""

    def area(self, scale: float, *rest, **named: Any) -> float:
        # Scaled later.
        for part in rest:
            if part:
                return scale
            elif named:
                return 1
        return self._edge()

    def _edge(self) -> float:
        try:
            return second.length()
        except (Exception, ValueError):  # noqa: BLE001
            return 0


def _unused():
    global COUNT
    COUNT = 1
'''
SECOND = '''from .deep import third


def length() -> float:
    """Length."""
    return third.once()
'''
THIRD = """def once() -> float:
    return 1


VALUE = 1  # a value
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A package of three modules and two empty `__init__.py`."""
    package = tmp_path / "pack"
    (package / "deep").mkdir(parents=True)
    for name, source in {
        "__init__": "", "deep/__init__": "", "first": FIRST, "second": SECOND, "deep/third": THIRD,
    }.items():  # fmt: skip
        (package / f"{name}.py").write_text(source)
    return package


def test_summary(tree: Path) -> None:
    """Every measure of a small package."""
    assert summarize(scan_tree(tree, "pack")) == {
        "files / lines": "3 / 41",
        "file lines p50/p90/max": "6/30/30",
        "function lines p50/p90/p99/max": "3/8/8/8",
        "classes, functions per file": "0.3, 1.7",
        "nesting p90/max": "2/2",
        "comment lines (own line)": "2.4 %",
        "docstring lines": "7.3 %",
        "public names with docstring": "50 %",
        "arguments typed": "67 %",
        "Any per 1,000 lines": "24.4",
        "noqa per 1,000 lines": "24.4",
        "broad excepts, global": "1, 1",
        "private functions used once, of all": "1 = 20 %",
        "files under 50 lines": "3",
        "modules with exactly one importer": "1",
    }


@pytest.mark.parametrize(
    ("body", "depth"),
    [
        ("pass", 0),
        ("if a: pass\n elif b: pass\n else: pass", 1),
        ("if a: pass\n else:\n  for b in c: pass", 2),
        ("with a:\n  try: pass\n  finally:\n   while b: pass", 3),
        ("def g():\n  if a: pass", 0),
    ],
)
def test_nesting(body: str, depth: int) -> None:
    """Blocks nest; branches of one `if` and nested functions do not."""
    assert nesting_depth(ast.parse(f"def f():\n {body}\n").body[0]) == depth


def test_public_names() -> None:
    """The own name decides whether a definition is public, wherever it is."""
    source = """
class _A:
    def b(self):
        def c():
            "Documented."

    def _d(self):
        "Private."
"""
    module = scan_module(source, "pack.a")
    assert (module.public, module.documented) == (2, 1)


def test_importers_count_once() -> None:
    """Several imports by one module are one importer; a module does not import itself."""
    modules = [
        scan_module("from pack import b\nfrom pack.b import x, y\nimport pack.c\n", "pack.a"),
        scan_module("import pack.b\nimport pack.c\n", "pack.b"),
        scan_module("from .. import unknown\n", "pack.c"),
    ]
    assert count_single_importers(modules) == 1


def test_percentiles() -> None:
    """Nearest-rank percentiles."""
    assert percentiles(range(10, 0, -1), 50, 90, 100) == "5/9/10"


def test_locate_installed_package(tree: Path) -> None:
    """A directory comes first, then an installed package; anything else is an error."""
    assert locate(str(tree)) == (tree, "pack")
    assert locate("pydantic-settings")[1] == "pydantic_settings"
    with pytest.raises(SystemExit, match="no_such_package is neither"):
        locate("no_such_package")


def test_table() -> None:
    """One column per summary."""
    table = format_table({"a": {"files": "1"}, "b": {"files": "2"}})
    assert table == "|  | a | b |\n| --- | --- | --- |\n| files | 1 | 2 |"
