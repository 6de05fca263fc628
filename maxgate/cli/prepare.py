"""`maxgate models prepare`: a model for `max serve` from a GGUF file or a package."""

import os
import re
import shlex
import signal
import sysconfig
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path, PurePath
from typing import Annotated, Literal

import typer

from maxgate.cli.options import CardOption, export_flags
from maxgate.cli.progress import show_bytes_progress
from maxgate.engine.prepared_model import PreparedModel, is_complete
from maxgate.errors import ConfigurationError
from maxgate.gguf.parts import strip_part_number
from maxgate.installation import Installation, requires_extra
from maxgate.model_cards.card import ModelCard, Source
from maxgate.model_cards.loader import ModelFiles, load_card_files
from maxgate.settings import load_settings


def prepare(
    model: Annotated[str, typer.Argument(help="GGUF file, or name of a card with a source.")],
    device: Annotated[
        Literal["cpu", "gpu"], typer.Option(help="Device that MAX runs the model on.")
    ] = "cpu",
    out: Annotated[
        str | None,
        typer.Option(help="Directory to write; a bare name is placed in the models folder."),
    ] = None,
    force: Annotated[bool, typer.Option(help="Replace a model that was prepared before.")] = False,
    if_missing: Annotated[
        bool, typer.Option(help="Do nothing if the directory exists and is complete.")
    ] = False,
    card: CardOption = None,
) -> None:
    """Prepare a Llama GGUF file, or the source of a card, for `max serve`.

    Writes a model card for a GGUF file, and prints the command that serves the model.
    """
    with requires_extra("preparing models", "prepare"):
        from maxgate.engine.model_directory import prepare_directory  # noqa: PLC0415  # an extra
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _exit)
    export_flags({"cards": card})
    settings = load_settings()
    card_files = load_card_files(settings.cards, settings.cache_dir)
    cards = list(card_files.values())
    source, name = _find_source(model, cards)
    models_dir = ModelFiles.locate(settings.cache_dir).models_dir
    target = resolve_target(out, name, models_dir)
    if if_missing and is_complete(target):
        return
    card_file = choose_card_file(target, models_dir, card_files)
    replace = force or if_missing  # an incomplete one
    with show_bytes_progress(f"Preparing {target.name}") as progress:
        if os.path.isdir(source):  # noqa: PTH112  # of any length
            encoding = find_card(model, cards).require_max().encoding or "float32"
            prepared = prepare_directory(
                source, target, encoding=encoding, force=replace, progress=progress
            )
        else:
            writes_card = card_file == place_card(target) and (force or not card_file.exists())
            prepared = _prepare_gguf(
                source,
                target,
                device=device,
                force=replace,
                progress=progress,
                card_file=card_file if writes_card else None,
                model_path=target.name if target.parent == models_dir else str(target.absolute()),
            )
    print(f"{prepared.directory} is ready for `max serve` ({prepared.encoding})")
    if card_file.exists():
        _print_next_command(card_file)


def _prepare_gguf(
    source: Path,
    target: Path,
    *,
    device: Literal["cpu", "gpu"],
    force: bool,
    progress: Callable[[int, int], None],
    card_file: Path | None,
    model_path: str,
) -> PreparedModel:
    from maxgate.engine.model_directory import choose_encoding, prepare_model  # noqa: PLC0415
    from maxgate.engine.prepared_card import build_card, write_card  # noqa: PLC0415
    from maxgate.gguf.llama import LlamaFile  # noqa: PLC0415

    model = LlamaFile(source)
    # Before the directory is written, because the file may have values that a card cannot have.
    card = build_card(
        model,
        encoding=choose_encoding(model, device),
        name=to_card_name(target.name),
        model_path=model_path,
        device=device,
    )
    prepared = prepare_model(model, target, device=device, force=force, progress=progress)
    if card_file is not None:
        write_card(card, card_file)
    return prepared


def resolve_target(out: str | None, name: str, models_dir: Path) -> Path:
    """Return the path of `--out`; a bare name, or `name` by default, is under `models_dir`.

    Raises ConfigurationError for a directory without a name.
    """
    path = Path(out or name).expanduser()
    if path.name in {"", ".."}:
        raise ConfigurationError(f"--out {out} has no name; give one, such as --out {name}")
    return path if out and "/" in out else models_dir / path


def _print_next_command(card_file: Path) -> None:
    program = Installation.detect().format_maxgate()
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
    name, own = to_card_name(target.name), place_card(target)
    for file, card in card_files.items():
        if name in card.names and file.absolute() != own:
            raise ConfigurationError(
                f"the model card {file} has the name {name} already; choose another with --out NAME"
            )
    return own


def place_card(target: Path) -> Path:
    """Return where the card of a model prepared in `target` is written: beside it."""
    # Not with_suffix: names of models contain dots.
    return target.absolute().with_name(f"{target.name}.yaml")


def _exit(number: int, frame: object) -> None:  # noqa: ARG001
    # A second signal would interrupt the cleaning up.
    signal.signal(number, signal.SIG_IGN)
    # SystemExit unwinds the stack, which removes partly written files.
    raise SystemExit(128 + number)


def _find_source(model: str, cards: list[ModelCard]) -> tuple[Path, str]:
    path = Path(model).expanduser()
    if path.suffix.lower() == ".gguf" or os.path.isfile(path):  # noqa: PTH113  # any length
        return path, to_card_name(Path(strip_part_number(path.name)).stem.lower())
    card = find_card(model, cards)
    if card.source is None:
        command = f"{Installation.detect().format_maxgate()} models prepare FILE.gguf"
        raise ConfigurationError(
            f"the card {card.name} has no source; give the GGUF file: "
            f"{command} --out {card.require_max().model_path}"
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


def find_card(name: str, cards: list[ModelCard]) -> ModelCard:
    """Return the card with a name.

    Raises ConfigurationError if there is none.
    """
    for card in cards:
        if name in card.names:
            return card
    if os.path.isdir(name):  # noqa: PTH112  # of any length
        found = sorted(file.name for file in Path(name).glob("*.gguf"))
        raise ConfigurationError(
            f"{name} is a directory; give a GGUF file"
            + (f", such as {Path(name) / found[0]}" if found else ", and there is none in it")
        )
    known = ", ".join(card.name for card in cards)
    raise ConfigurationError(f"no file or model card is named {name}; known cards: {known}")
