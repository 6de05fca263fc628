"""`maxgate models`: list, show and prepare models."""

import re
import shlex
import shutil
import signal
import sys
import sysconfig
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path, PurePath
from typing import Annotated, Literal

import typer
import yaml

from maxgate.cli.options import CardOption, export_flags
from maxgate.cli.progress import show_bytes_progress
from maxgate.errors import ConfigurationError
from maxgate.installation import Installation, requires_extra
from maxgate.model_cards.card import ModelCard, Source
from maxgate.model_cards.loader import ModelFiles, load_card_files, load_cards
from maxgate.settings import load_settings


def commands() -> typer.Typer:
    """Build the subcommands."""
    app = typer.Typer(help="List, show and prepare models.", no_args_is_help=True)
    app.command("list")(list_models)
    app.command("show")(show)
    app.command("prepare")(prepare)
    return app


def list_models(card: CardOption = None) -> None:
    """List the model cards, and whether their files are on this machine."""
    export_flags({"cards": card})
    settings = load_settings()
    model_files = ModelFiles.locate(settings.cache_dir)
    for one in load_cards(settings.cards, settings.cache_dir):
        if one.max is None:
            devices, state = "-", "elsewhere"
        else:
            devices = one.max.devices
            state = "ready" if model_files.find(one.max.model_path) else "not here"
        print(f"{one.name:36} {devices:8} {state:10} {one.description}")


def show(name: str, card: CardOption = None) -> None:
    """Show one model card, including its defaults."""
    export_flags({"cards": card})
    settings = load_settings()
    chosen = _find_card(name, load_cards(settings.cards, settings.cache_dir))
    print(yaml.safe_dump(chosen.model_dump(mode="json"), sort_keys=False), end="")


def prepare(
    model: Annotated[str, typer.Argument(help="GGUF file, or name of a card with a source.")],
    device: Annotated[
        Literal["cpu", "gpu"], typer.Option(help="Device that MAX runs the model on.")
    ] = "cpu",
    out: Annotated[
        str | None,
        typer.Option(help="Directory to write; a bare name is placed in the models folder."),
    ] = None,
    force: Annotated[bool, typer.Option(help="Replace the directory if it exists.")] = False,
    if_missing: Annotated[bool, typer.Option(help="Do nothing if the directory exists.")] = False,
    card: CardOption = None,
) -> None:
    """Prepare a Llama GGUF file, or the source of a card, for `max serve`.

    Writes a model card for a GGUF file, and prints the command that serves the model.
    """
    with requires_extra("preparing models", "prepare"):
        from maxgate.engine.model_directory import (  # noqa: PLC0415  # an extra
            prepare_directory,
            prepare_model,
        )
        from maxgate.engine.prepared_card import build_card, write_card  # noqa: PLC0415
    signal.signal(signal.SIGTERM, _exit)
    export_flags({"cards": card})
    settings = load_settings()
    card_files = load_card_files(settings.cards, settings.cache_dir)
    cards = list(card_files.values())
    source, name = _find_source(model, cards)
    models_dir = ModelFiles.locate(settings.cache_dir).models_dir
    target = resolve_target(out, name, models_dir)
    if if_missing and target.exists():
        return
    card_file = choose_card_file(target, models_dir, card_files)
    with show_bytes_progress(f"Preparing {target.name}") as progress:
        if source.is_dir():
            encoding = _find_card(model, cards).require_max().encoding or "float32"
            prepared = prepare_directory(
                source, target, encoding=encoding, force=force, progress=progress
            )
        else:
            prepared = prepare_model(source, target, device=device, force=force, progress=progress)
            is_own = card_file == _place_card(target)
            if is_own and (force or not card_file.exists()):
                path = target.name if target.parent == models_dir else str(target.absolute())
                built = build_card(
                    source, prepared, name=to_card_name(target.name), model_path=path, device=device
                )
                write_card(built, card_file)
    print(f"{prepared.directory} is ready for `max serve` ({prepared.encoding})")
    if card_file.exists():
        _print_next_command(card_file)


def resolve_target(out: str | None, name: str, models_dir: Path) -> Path:
    """Return the path of `--out`; a bare name, or `name` by default, is under `models_dir`."""
    path = Path(out or name).expanduser()
    return path if out and "/" in out else models_dir / path


def _print_next_command(card_file: Path) -> None:
    # Without an activated virtual environment, the program is not in PATH.
    program = "maxgate" if shutil.which("maxgate") else f"{sys.executable} -m maxgate"
    print(f"Its model card is {card_file}. Serve it with:\n")
    print(f"    {program} serve --engine local --card {shlex.quote(str(card_file.absolute()))}")


def to_card_name(name: str) -> str:
    """Return the name of a file or directory without the characters that a card's name lacks."""
    return re.sub(r"[^\w.+-]+", "-", name).strip("-")[:200] or "model"


def choose_card_file(target: Path, models_dir: Path, card_files: Mapping[Path, ModelCard]) -> Path:
    """Return the file of a prepared model's card, which may not exist yet.

    Raises ConfigurationError if another model's card has the name already.
    """
    target = target.absolute()
    for file, card in card_files.items():
        path = None if card.max is None else Path(card.max.model_path).expanduser()
        if path is not None and (models_dir / path).absolute() == target:
            return file
    name, own = to_card_name(target.name), _place_card(target)
    for file, card in card_files.items():
        if name in card.names and file.absolute() != own:
            raise ConfigurationError(
                f"the model card {file} has the name {name} already; choose another with --out NAME"
            )
    return own


def _place_card(target: Path) -> Path:
    # Not with_suffix: names of models contain dots.
    return target.absolute().with_name(f"{target.name}.yaml")


def _exit(number: int, frame: object) -> None:  # noqa: ARG001
    # SystemExit unwinds the stack, which removes partly written files.
    raise SystemExit(128 + number)


def _find_source(model: str, cards: list[ModelCard]) -> tuple[Path, str]:
    path = Path(model).expanduser()
    if path.suffix == ".gguf" or path.is_file():
        return path, to_card_name(path.stem.lower())
    card = _find_card(model, cards)
    if card.source is None:
        raise ConfigurationError(
            f"the card {card.name} has no source; give the GGUF file: "
            f"maxgate models prepare FILE.gguf --out {card.require_max().model_path}"
        )
    return _find_packaged(card.source), card.require_max().model_path


def _find_packaged(source: Source) -> Path:
    try:
        names = files(source.package) or []
    except PackageNotFoundError as error:
        # --no-deps: only the data file is needed, not the program that depends on it.
        raise ConfigurationError(
            f"the package {source.package} is not installed; run: "
            f"{Installation.detect().format_pip()} install --no-deps {source.package}"
        ) from error
    for name in names:
        if source.file is not None and name.name == source.file:
            return Path(str(name.locate()))
        if source.directory is not None and name.parent == PurePath(source.directory):
            return Path(str(name.locate())).parent
    raise ConfigurationError(
        f"the package {source.package} in {sysconfig.get_path('purelib')} "
        f"has no {source.file or source.directory}"
    )


def _find_card(name: str, cards: list[ModelCard]) -> ModelCard:
    for card in cards:
        if name in card.names:
            return card
    known = ", ".join(card.name for card in cards)
    raise ConfigurationError(f"no file or model card is named {name}; known cards: {known}")
