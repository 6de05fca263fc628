"""What is known of a directory that `maxgate models prepare` wrote.

Apart from the writing itself, which needs the extra `local`: a container's arguments are made
without it.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_PROVENANCE = "maxgate.json"


@dataclass(frozen=True, slots=True)
class PreparedModel:
    """A directory for `max serve --model`, and what else its command line needs."""

    directory: Path
    encoding: str
    weight_path: Path | None

    def moved_to(self, directory: Path) -> Self:
        """The same files, seen from a container that has them elsewhere."""
        weight = self.weight_path
        return type(self)(directory, self.encoding, weight and directory / weight.name)


def write_prepared(directory: Path, *, source: str, encoding: str, weight_file: str | None) -> None:
    """Leave in the directory what `read_prepared` finds there."""
    facts = {"source": source, "encoding": encoding, "weight_file": weight_file}
    (directory / _PROVENANCE).write_text(json.dumps(facts, indent=2))


def read_prepared(directory: Path) -> PreparedModel | None:
    """What an earlier `prepare_model` left in the directory, or None where it left nothing."""
    try:
        facts = json.loads((directory / _PROVENANCE).read_text())
    except (OSError, ValueError):
        return None
    weight = facts.get("weight_file")
    return PreparedModel(
        directory=directory,
        encoding=facts["encoding"],
        weight_path=None if weight is None else directory / weight,
    )
