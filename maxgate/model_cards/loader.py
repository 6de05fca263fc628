"""Loading model cards, and finding the files they refer to."""

import difflib
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from maxgate.errors import ConfigurationError
from maxgate.installation import Installation
from maxgate.model_cards.card import ModelCard
from maxgate.settings_section import choose_error
from maxgate.yaml_text import parse_yaml

# Beside the package in a checkout, inside it in a wheel.
_BUNDLED_DIRS = (Path(__file__).parents[1] / "models", Path(__file__).parents[2] / "models")


def load_cards(paths: Sequence[Path], cache_dir: Path | None = None) -> list[ModelCard]:
    """Return the cards of `load_card_files`."""
    return list(load_card_files(paths, cache_dir).values())


def load_card_files(paths: Sequence[Path], cache_dir: Path | None = None) -> dict[Path, ModelCard]:
    """Load cards from files and folders, in order, by file.

    Without paths, loads the bundled cards, then those of the models prepared in `cache_dir`.

    Raises ConfigurationError for invalid cards and for names that two cards share.
    """
    if not paths:
        paths = [next(directory for directory in _BUNDLED_DIRS if directory.is_dir())]
        if cache_dir is not None:
            prepared = ModelFiles.locate(cache_dir).models_dir
            paths += [prepared] if prepared.is_dir() else []
    files = [file for path in paths for file in _list_files(path.expanduser())]
    cards = {file: _load_card(file) for file in files}
    owners: dict[str, Path] = {}
    for file, card in cards.items():
        for name in card.names:
            if owners.setdefault(name, file) != file:
                raise ConfigurationError(
                    f"model cards {owners[name]} and {file}: both have the name {name}"
                )
    return cards


def _list_files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(path.glob("*.yaml"))
    if path.is_file():
        return [path]
    raise ConfigurationError(f"model card {path}: no such file or folder")


def _load_card(file: Path) -> ModelCard:
    try:
        content = parse_yaml(file.read_text(encoding="utf-8"), f"model card {file}")
        return ModelCard.model_validate(content)
    except OSError as error:
        raise ConfigurationError(f"model card {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"model card {file}: not UTF-8 text") from error
    except ValidationError as error:
        details = choose_error(error)
        field = ".".join(str(step) for step in details["loc"]) or "the file"
        message = details["msg"].removeprefix("Value error, ")
        if details["type"] == "extra_forbidden":
            message = "unknown field" + _suggest_field(field)
        raise ConfigurationError(f"model card {file}: {field}: {message}") from error


def _suggest_field(name: str) -> str:
    fields = list_fields(ModelCard)
    close = difflib.get_close_matches(name, fields, n=1)
    if not close:  # the field of another section, perhaps misspelled
        by_last_part = {field.rpartition(".")[2]: field for field in reversed(fields)}
        last = difflib.get_close_matches(name.rpartition(".")[2], by_last_part, n=1)
        close = [by_last_part[part] for part in last]
    return f"; did you mean {close[0]}?" if close else "; docs/model-cards.md lists all fields"


def list_fields(section: type[BaseModel]) -> list[str]:
    """List the fields of a card or of one of its sections, such as `sampling.top_p`."""
    names = []
    for name, field in section.model_fields.items():
        names.append(name)
        inner = get_section(field)
        names += [] if inner is None else [f"{name}.{n}" for n in list_fields(inner)]
    return names


def get_section(field: FieldInfo) -> type[BaseModel] | None:
    """Return the type of a field that is a section, optional or not; None for other fields."""
    for option in get_args(field.annotation) or (field.annotation,):
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return None


def is_repository(reference: str) -> bool:
    """Return whether a card's `model_path` is a Hugging Face repository: `owner/name`."""
    owner, _, name = reference.partition("/")
    return bool(owner and name) and "/" not in name and not Path(reference).is_absolute()


def suggest_tokenizer_command(card: ModelCard) -> str:
    """Return how the tokenizer of a card gets onto this machine: a command where there is one."""
    if is_repository(card.tokenizer):
        beside = Path(sys.executable).with_name("hf")
        program = str(beside) if beside.exists() and not shutil.which("hf") else "hf"
        return f"run: {program} download {card.tokenizer} tokenizer.json"
    if card.source is not None:
        return f"run: {Installation.detect().format_maxgate()} models prepare {card.name}"
    return (
        f"copy the model's tokenizer.json, and set `tokenizer` in the card {card.name} to its path"
    )


def _find_hub_cache() -> Path:
    # The rules of huggingface_hub, which MAX downloads with.
    if cache := os.environ.get("HF_HUB_CACHE"):
        return Path(cache)
    home = os.environ.get("HF_HOME")
    return (Path(home) if home else Path.home() / ".cache" / "huggingface") / "hub"


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Finds the files that cards refer to.

    `cache_dir` is maxgate's own cache, with prepared models in its `models/`. `hub_cache` is the
    download folder of `huggingface_hub`.
    """

    cache_dir: Path
    hub_cache: Path

    @classmethod
    def locate(cls, cache_dir: Path) -> "ModelFiles":
        """Use the download folder from huggingface_hub's environment variables."""
        return cls(cache_dir.expanduser(), _find_hub_cache())

    @property
    def models_dir(self) -> Path:
        """The folder that `maxgate models prepare` writes to."""
        return self.cache_dir / "models"

    def find(self, reference: str) -> Path | None:
        """Find a path, a prepared model or a downloaded repository; None if it is not here."""
        path = Path(reference).expanduser()
        for candidate in (path, self.models_dir / path):
            if candidate.exists():
                return candidate.absolute()
        return self._find_download(reference)

    def find_tokenizer(self, reference: str) -> Path | None:
        """Find a file with a tokenizer; None if it is not here, or not yet complete."""
        found = self.find(reference)
        if found is None or found.is_file():
            return found
        file = found / "tokenizer.json"
        # A download appears under its name once it is complete.
        return file if file.exists() else None

    def _find_download(self, reference: str) -> Path | None:
        repository = self.hub_cache / ("models--" + reference.replace("/", "--"))
        try:
            revision = (repository / "refs" / "main").read_text().strip()
        except OSError:
            return None
        snapshot = repository / "snapshots" / revision
        return snapshot if snapshot.is_dir() else None
