"""Changes of the file with API keys: each replaces it as a whole, and keeps its comments."""

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import yaml

from maxgate.auth.key_file import KeyEntry, parse_keys, read_key_file
from maxgate.errors import ConfigurationError

_HEADER: Final = "# API keys of maxgate, without the keys themselves. See docs/keys.md.\n"

_Edit = Callable[[str], str]


def add_entry(path: Path, entry: KeyEntry) -> None:
    """Add a key; the file is created if it does not exist.

    Raises ConfigurationError if the file is invalid, cannot be written, or has such a key.
    """

    def append(text: str) -> str:
        keys = _find_list(text)
        column = keys[0].start_mark.column - 2 if keys else 2
        if "keys:" not in text:
            text = f"{text or _HEADER}keys:\n"
        return f"{text.rstrip()}\n{_format_item(entry, max(column, 0))}"

    with _lock(path):
        before = read_key_file(path) if path.exists() else []
        if any(entry.id == other.id for other in before):
            raise ConfigurationError(f"{path}: a key with the id {entry.id!r} exists already")
        _change(path, [*before, entry], append)


def disable_entry(path: Path, key_id: str) -> KeyEntry:
    """Disable a key; raises ConfigurationError if the file is invalid or has no such key."""

    def insert(text: str) -> str:
        lines = text.splitlines(keepends=True)
        for item in _find_list(text):
            fields = {key.value: (key, value) for key, value in item.value}
            key, value = fields["id"]
            if value.value == key_id and not item.flow_style:
                indent = " " * key.start_mark.column
                lines.insert(value.end_mark.line + 1, f"{indent}disabled: true\n")
        return "".join(lines)

    with _lock(path):
        before = read_key_file(path)
        found = next((entry for entry in before if entry.id == key_id), None)
        if found is None:
            raise ConfigurationError(
                f"{path}: no key has the id {key_id[:100]!r}; `maxgate keys list --file` lists them"
            )
        disabled = found.model_copy(update={"disabled": True})
        if found.disabled:
            return found
        _change(path, [disabled if entry is found else entry for entry in before], insert)
    return disabled


def _change(path: Path, wanted: Sequence[KeyEntry], edit: _Edit) -> None:
    """Write the keys as an edit of the file; if that is not possible, without its comments."""
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    text = edit(old)
    with suppress(ConfigurationError):
        if parse_keys(text, path) == wanted:
            _replace(path, text)
            return
    items = "".join(_format_item(entry, 2) for entry in wanted)
    _replace(path, f"{_HEADER}keys:\n{items}")


def _replace(path: Path, text: str) -> None:
    """Replace the file; only its owner may read the new one."""
    target = path.resolve()  # a link stays one
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            with suppress(OSError):  # only root can give files away
                found = target.stat()
                os.fchown(descriptor, found.st_uid, found.st_gid)
            os.fsync(descriptor)
        Path(name).replace(target)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Keep other commands from changing the file; raises ConfigurationError for errors of I/O."""
    folder = path.resolve().parent
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error


def _find_list(text: str) -> list[Any]:
    """Return the nodes of the list's items."""
    root = yaml.compose(text, yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        return []
    for key, value in root.value:
        if key.value == "keys" and isinstance(value, yaml.SequenceNode):
            items: list[Any] = value.value
            return items
    return []


def _format_item(entry: KeyEntry, indent: int) -> str:
    fields = entry.model_dump(mode="json", exclude_defaults=True)
    lines = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=1000).splitlines()
    marks = ["- ", *["  "] * len(lines)]
    return "".join(
        f"{' ' * indent}{mark}{line}\n" for mark, line in zip(marks, lines, strict=False)
    )
