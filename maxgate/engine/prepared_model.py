"""How `maxgate models` recognizes the directories and cards that it wrote."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

MARKER: Final = "maxgate.json"
CARD_HEADER: Final = """\
# Written by `maxgate models prepare`, which keeps your changes unless --force is given.
# docs/model-cards.md describes all fields.
"""


@dataclass(frozen=True, slots=True)
class PreparedModel:
    """A directory for `max serve --model`, with the flags that go with it."""

    directory: Path
    encoding: str
    weight_path: Path | None

    def relocate(self, directory: Path) -> Self:
        """Return the same model at another path, such as a container's mount point."""
        weight = self.weight_path
        return type(self)(directory, self.encoding, weight and directory / weight.name)


def write_prepared(directory: Path, *, source: str, encoding: str, weight_file: str | None) -> None:
    """Write the file that the functions below read, with the sizes of all files now there."""
    sizes = {name: (directory / name).stat().st_size for name in list_files(directory)}
    facts = {"source": source, "encoding": encoding, "weight_file": weight_file, "files": sizes}
    (directory / MARKER).write_text(json.dumps(facts, indent=2))


def read_prepared(directory: Path) -> PreparedModel | None:
    """Read a directory written by `maxgate models prepare`; None for any other directory."""
    facts = _read_facts(directory)
    if facts is None:
        return None
    weight = facts.get("weight_file")
    return PreparedModel(
        directory=directory,
        encoding=facts["encoding"],
        weight_path=None if weight is None else directory / weight,
    )


def find_foreign_files(directory: Path) -> list[str]:
    """Return the files that `maxgate models prepare` did not write, by relative name.

    Of a directory that it did not write, returns the entries.
    """
    facts = _read_facts(directory)
    if facts is None:  # not all files: it may be a home directory
        return sorted(os.listdir(directory))  # noqa: PTH208  # names
    files = list_files(directory)
    # Older versions did not list their files.
    own = facts.get("files", files)
    return [name for name in files if name not in own and name != MARKER]


def find_damaged_files(directory: Path) -> list[str]:
    """Return the files of a prepared model that are missing or of another size, by name."""
    facts = _read_facts(directory) or {}
    weight = facts.get("weight_file")
    sizes: dict[str, int | None] = facts.get("files") or ({weight: None} if weight else {})
    return [name for name, size in sizes.items() if not _has_size(directory / name, size)]


def is_complete(directory: Path) -> bool:
    """Return whether a directory has files, and all those that `maxgate models prepare` wrote."""
    return directory.is_dir() and any(directory.iterdir()) and not find_damaged_files(directory)


def list_files(directory: Path) -> list[str]:
    """Return all files under a directory, links and empty directories included, by name."""
    return sorted(_walk(directory, Path()))


def _walk(directory: Path, inside: Path) -> Iterator[str]:
    with os.scandir(directory / inside) as entries:
        for entry in entries:
            name = inside / entry.name
            if entry.is_dir(follow_symlinks=False):
                inner = list(_walk(directory, name))
                yield from inner or [f"{name}/"]
            else:
                yield str(name)


def _has_size(file: Path, size: int | None) -> bool:
    try:
        return size in (None, file.stat().st_size)
    except OSError:
        return False


def _read_facts(directory: Path) -> dict[str, Any] | None:
    try:
        facts = json.loads((directory / MARKER).read_text())
    except (OSError, ValueError, RecursionError):
        return None
    is_own = isinstance(facts, dict) and isinstance(facts.get("encoding"), str)
    return facts if is_own and isinstance(facts.get("files", {}), dict) else None
