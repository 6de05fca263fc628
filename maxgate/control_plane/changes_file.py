"""`state_dir/engines.yaml`: changes to the engines that outlive the gateway."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from maxgate.control_plane.changes import EngineChanges
from maxgate.control_plane.errors import ChangesNotSaved
from maxgate.errors import ConfigurationError
from maxgate.yaml_text import parse_yaml

_NAME: Final = "engines.yaml"
_HEADER: Final = (
    "# Changes to the engines at run time; written by maxgate. Delete it to undo them.\n"
)
_SECTION: Final = "gateways"
_WAY_OUT: Final = "correct the file, or delete it"


class ChangesFile:
    """The changes of one gateway in the file that all gateways with this `state_dir` share.

    `gateway` is the gateway's name in the file, made of host and port. The file is replaced by
    renaming, so that a process that is killed leaves the old file or the new one.
    """

    def __init__(self, state_dir: Path, gateway: str) -> None:
        self.path = state_dir.expanduser() / _NAME
        self._gateway = gateway

    def load(self) -> EngineChanges:
        """Return the saved changes, which are empty without a file.

        Raises ConfigurationError, which names file, field and rule, if the file is invalid.
        """
        content = self._read().get(self._gateway, {})
        try:
            return EngineChanges.model_validate(content)
        except ValidationError as error:
            details = error.errors(include_url=False, include_input=False)[0]
            steps = [_SECTION, self._gateway, *map(str, details["loc"])]
            message = details["msg"].removeprefix("Value error, ")
            raise self._invalid(f"{'.'.join(steps)}: {message}") from error

    def save(self, changes: EngineChanges) -> None:
        """Replace the changes of this gateway; raises ChangesNotSaved."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._locked():
                sections = {**self._read(), self._gateway: changes.dump()}
                kept = {name: section for name, section in sections.items() if section}
                self._replace(yaml.safe_dump({_SECTION: kept}, sort_keys=False))
        except OSError as error:
            raise ChangesNotSaved(f"{self.path}: {error.strerror}") from error
        except ConfigurationError as error:
            raise ChangesNotSaved(str(error)) from error

    def _read(self) -> dict[str, Any]:
        """Return the changes of every gateway."""
        try:
            content: Any = parse_yaml(self.path.read_text(encoding="utf-8"), str(self.path))
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise ConfigurationError(f"{self.path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise self._invalid("not UTF-8 text") from error
        except ConfigurationError as error:
            raise ConfigurationError(f"{error}; {_WAY_OUT}") from error
        sections = {} if content is None else content
        if isinstance(sections, dict) and not set(sections) - {_SECTION}:
            sections = sections.get(_SECTION) or {}
            if isinstance(sections, dict):
                return sections
        raise self._invalid(f"must hold `{_SECTION}:` and the changes of each gateway")

    def _invalid(self, rule: str) -> ConfigurationError:
        return ConfigurationError(f"{self.path}: {rule}; {_WAY_OUT}")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # A file of its own, because renaming replaces the other one.
        descriptor = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _replace(self, text: str) -> None:
        new = self.path.with_suffix(".new")
        # URLs may hold credentials.
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(_HEADER + text)
            file.flush()
            os.fsync(descriptor)
        new.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
