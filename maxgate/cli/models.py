"""`maxgate models`: list, show, remove and swap models; cli/prepare.py prepares them."""

import json
import threading
from pathlib import Path
from typing import Annotated, Final

import typer
import yaml

from maxgate.cli.admin_client import AdminRequestFailed, UrlOption, request
from maxgate.cli.options import CardOption, export_flags
from maxgate.cli.prepare import find_card, place_card, prepare
from maxgate.cli.tables import confirm
from maxgate.engine.output_directory import remove_prepared
from maxgate.engine.prepared_model import CARD_HEADER, find_damaged_files, list_files
from maxgate.errors import ConfigurationError
from maxgate.model_cards.card import ModelCard
from maxgate.model_cards.loader import ModelFiles, is_repository, load_card_files, load_cards
from maxgate.settings import load_settings

_POLL_INTERVAL: Final = 0.2
_PHASES: Final = {
    "starting": "starting {new}",
    "draining": "waiting for the requests of {old}",
    "stopping": "stopping {old}",
    "restoring": "{new} has failed, starting {old} again",
}


def commands() -> typer.Typer:
    """Build the subcommands."""
    app = typer.Typer(help="List, show, prepare, remove and swap models.", no_args_is_help=True)
    app.command("list")(list_models)
    app.command("show")(show)
    app.command("prepare")(prepare)
    app.command("remove")(remove)
    app.command("swap")(swap)
    return app


def list_models(card: CardOption = None) -> None:
    """List the model cards, and whether their files are on this machine."""
    export_flags({"cards": card})
    settings = load_settings()
    model_files = ModelFiles.locate(settings.cache_dir)
    incomplete = []
    for one in load_cards(settings.cards, settings.cache_dir):
        devices, state, damaged = "-", "elsewhere", list[str]()
        if one.max is not None:
            found = model_files.find(one.max.model_path)
            damaged = find_damaged_files(found) if found else []
            devices = one.max.devices
            state = "incomplete" if damaged else "ready" if found else "not here"
        print(f"{one.name:36} {devices:8} {state:10} {one.description}")
        incomplete += [f"{one.name} is incomplete: {found}/{name}" for name in damaged[:1]]
    for line in incomplete:
        typer.echo(f"{line} is missing or cut off; prepare the model again with --force", err=True)


def show(
    name: Annotated[str, typer.Argument(help="Name of a model.")], card: CardOption = None
) -> None:
    """Show one model card, including its defaults."""
    export_flags({"cards": card})
    settings = load_settings()
    chosen = find_card(name, load_cards(settings.cards, settings.cache_dir))
    print(yaml.safe_dump(chosen.model_dump(mode="json"), sort_keys=False), end="")


def remove(
    name: Annotated[str, typer.Argument(help="Name of a model.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    card: CardOption = None,
) -> None:
    """Remove a prepared model and the card that was written with it.

    Removes only files that `maxgate models prepare` wrote.
    """
    export_flags({"cards": card})
    settings = load_settings()
    card_files = load_card_files(settings.cards, settings.cache_dir)
    chosen = find_card(name, list(card_files.values()))
    directory = _locate_directory(chosen, ModelFiles.locate(settings.cache_dir).models_dir)
    card_file = next(file for file, one in card_files.items() if one is chosen)
    removes_card = (
        card_file.absolute() == place_card(directory)
        and CARD_HEADER.splitlines()[0] in card_file.read_text()
    )
    if not directory.exists() and not removes_card:
        raise ConfigurationError(f"the model {chosen.name} is not on this machine: no {directory}")
    if directory.exists():
        size = sum((directory / file).lstat().st_size for file in list_files(directory))
        print(f"{directory} ({size / 1e9:.1f} GB)")
    if removes_card:
        print(card_file)
    confirm("Remove?", yes=yes, err=False)
    if directory.exists():
        remove_prepared(directory)
    if removes_card:
        card_file.unlink(missing_ok=True)


def swap(
    old: Annotated[str, typer.Argument(help="Model to replace.", metavar="OLD")],
    new: Annotated[str, typer.Argument(help="Model to start in its place.", metavar="NEW")],
    *,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Stop OLD first; requests wait meanwhile.")
    ] = False,
    url: UrlOption,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the JSON of the admin API.")
    ] = False,
) -> None:
    """Replace a model of a running gateway by another one, without losing a request.

    Starts NEW and sends it a request, sends it the requests for OLD, waits for the running ones,
    and stops OLD.
    """
    body = {"old": old, "new": new, "in_place": in_place}
    status = request("POST", url, "models/swap", body)
    shown, pause = "", threading.Event()
    while status["phase"] not in {"done", "failed"}:
        if status["phase"] != shown and not as_json:
            shown = status["phase"]
            print(f"{_PHASES[shown].format(**status)} ({status['seconds']:.0f} s)", flush=True)
        pause.wait(_POLL_INTERVAL)  # the gateway has no event for a client
        status = request("GET", url, "models/swap")
    if status["phase"] == "failed":
        raise AdminRequestFailed(f"{status['new']} did not replace {old}: {status['error']}")
    if as_json:
        print(json.dumps(status, indent=2))
    else:
        held = f"; requests waited {status['held_seconds']:.1f} s" if in_place else ""
        print(f"{status['new']} replaced {status['old']} after {status['seconds']:.1f} s{held}")


def _locate_directory(card: ModelCard, models_dir: Path) -> Path:
    if card.max is None:
        raise ConfigurationError(
            f"the model {card.name} is served elsewhere; no files of it are here"
        )
    if is_repository(card.max.model_path):
        raise ConfigurationError(
            f"the model {card.name} was downloaded by MAX; remove {card.max.model_path} with "
            "Hugging Face's `hf cache`"
        )
    return (models_dir / Path(card.max.model_path).expanduser()).absolute()
