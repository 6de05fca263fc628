"""The files of a split model, by the names that llama.cpp's `gguf-split` gives them."""

import re
from pathlib import Path
from typing import Final

from maxgate.gguf.errors import ModelFileError

_PART_NAME: Final = re.compile(r"(?P<model>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?i:\.gguf)")


def strip_part_number(name: str) -> str:
    """Return the file name of a split model without the number of the part."""
    match = _PART_NAME.fullmatch(name)
    return name if match is None else f"{match['model']}.gguf"


def locate_parts(path: Path, count: int) -> list[Path]:
    """Return the paths of all parts of a model in `count` files, of which `path` is one.

    They are beside `path` as it is given: in Hugging Face's cache, these are links to files without
    such names.

    Raises ModelFileError if one is missing, or if the name is not that of a part.
    """
    match = _PART_NAME.fullmatch(path.name)
    if match is None or int(match["count"]) != count:
        raise ModelFileError(
            f"{path} is a part of a model in {count} files, which cannot be found by its name. "
            f"Name them MODEL-00001-of-{count:05d}.gguf to MODEL-{count:05d}-of-{count:05d}.gguf, "
            "in one folder."
        )
    paths = [
        path.with_name(f"{match['model']}-{number:05d}-of-{count:05d}{path.suffix}")
        for number in range(1, count + 1)
    ]
    missing = [part.name for part in paths if not part.exists()]
    if missing:
        shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if missing[3:] else "")
        raise ModelFileError(
            f"{path} is a part of a model in {count} files; {path.parent} lacks {shown}. "
            "Download all of them to one folder."
        )
    return paths
