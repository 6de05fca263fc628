"""Reading model cards from disk."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import ValidationError

from maxgate.errors import ConfigurationError
from maxgate.model_cards.card import ModelCard

# Beside the package in a checkout, inside it in a wheel.
_PLACES = (Path(__file__).parents[1] / "models", Path(__file__).parents[2] / "models")


def load_cards(paths: Sequence[Path]) -> list[ModelCard]:
    """All cards, in order; those of a folder by file name. The bundled ones where no path is given.

    Raises ConfigurationError for files that are not cards and for names that two cards claim.
    """
    files = [file for path in paths or [_bundled()] for file in _files(path.expanduser())]
    cards = [_load(file) for file in files]
    owners: dict[str, ModelCard] = {}
    for card in cards:
        for name in card.names:
            if owners.setdefault(name, card) is not card:
                raise ConfigurationError(
                    f"model cards: {card.name} and {owners[name].name} both claim the name {name}"
                )
    return cards


def _bundled() -> Path:
    return next(place for place in _PLACES if place.is_dir())


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(path.glob("*.yaml"))
    if path.is_file():
        return [path]
    raise ConfigurationError(f"model card {path}: no such file or folder")


def _load(file: Path) -> ModelCard:
    try:
        content = yaml.safe_load(file.read_text())
        return ModelCard.model_validate(content)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"model card {file}: not a readable YAML file") from error
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(step) for step in details["loc"]) or "the file"
        raise ConfigurationError(f"model card {file}: {field}: {details['msg']}") from error


def _default_hub_cache() -> Path:
    # The rules of huggingface_hub, which is what MAX downloads with.
    if cache := os.environ.get("HF_HUB_CACHE"):
        return Path(cache)
    home = os.environ.get("HF_HOME")
    return (Path(home) if home else Path.home() / ".cache" / "huggingface") / "hub"


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Finds what cards refer to.

    `data_dir` is maxgate's own folder; prepared models are in its `models/`. `hub_cache` is the
    folder that `huggingface_hub` downloads to.
    """

    data_dir: Path
    hub_cache: Path

    @classmethod
    def of(cls, data_dir: Path) -> "ModelFiles":
        """With the download folder that the environment names."""
        return cls(data_dir.expanduser(), _default_hub_cache())

    @property
    def models_dir(self) -> Path:
        """Where `maxgate models prepare` writes."""
        return self.data_dir / "models"

    def find(self, reference: str) -> Path | None:
        """A path, a prepared model's name or a downloaded repository; None where it is not here."""
        path = Path(reference).expanduser()
        for candidate in (path, self.models_dir / path):
            if candidate.exists():
                return candidate.absolute()
        return self._downloaded(reference)

    def find_tokenizer(self, reference: str) -> Path | None:
        """A file that a tokenizer can be read from; None where it is not here, or not yet."""
        found = self.find(reference)
        if found is None or found.is_file():
            return found
        file = found / "tokenizer.json"
        # Downloads appear under their name when they are complete.
        return file if file.exists() else None

    def _downloaded(self, reference: str) -> Path | None:
        repository = self.hub_cache / ("models--" + reference.replace("/", "--"))
        try:
            revision = (repository / "refs" / "main").read_text().strip()
        except OSError:
            return None
        snapshot = repository / "snapshots" / revision
        return snapshot if snapshot.is_dir() else None
