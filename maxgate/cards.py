"""Reading model cards from disk."""

from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import ValidationError

from maxgate.errors import ConfigurationError
from maxgate.generation.model_card import ModelCard

# Beside the package in a checkout, inside it in a wheel.
_PLACES = (Path(__file__).parent / "models", Path(__file__).parent.parent / "models")


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
