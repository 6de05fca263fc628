"""The drawing of the error tree in errors.py matches the code."""

import importlib
import pkgutil
from collections.abc import Iterator

import maxgate
from maxgate import errors
from maxgate.errors import MaxgateError


def draw(error: type[MaxgateError], margin: str = "") -> Iterator[str]:
    """Draw the public subclasses of an error, in alphabetical order."""
    public = [child for child in error.__subclasses__() if not child.__name__.startswith("_")]
    children = sorted(public, key=lambda child: child.__name__)
    for child in children:
        is_last = child is children[-1]
        module = child.__module__.removeprefix("maxgate.")
        status = f" {child.status}" if hasattr(child, "status") else ""
        place = "" if module == "errors" else f"  {module}"
        yield f"{margin}{'└' if is_last else '├'}── {child.__name__}{status}{place}"
        yield from draw(child, margin + ("    " if is_last else "│   "))


def test_drawn_tree() -> None:
    """Every error is drawn with its status, and with its module if it is defined elsewhere."""
    for module in pkgutil.walk_packages(maxgate.__path__, "maxgate."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    drawn = ["MaxgateError", *draw(MaxgateError)]
    assert "\n".join(f"    {line}" for line in drawn) in (errors.__doc__ or "")
