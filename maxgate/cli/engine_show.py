"""`maxgate engine show`: what the engines are, and what they can do."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import Annotated

import orjson
import typer

from maxgate.cards import load_cards
from maxgate.cli.options import CardOption, ConfigOption, EngineUrlOption, export_flags
from maxgate.errors import EngineError
from maxgate.generation.catalog import Abilities
from maxgate.settings import Settings, load_settings
from maxgate.upstream.abilities import probe_abilities
from maxgate.upstream.client import probe_client
from maxgate.upstream.endpoint import EndpointState
from maxgate.upstream.model_list import NotListed, list_models
from maxgate.upstream.transport import EngineTransport

_ABILITIES = tuple([field.name for field in fields(Abilities)])
_HEAD = ("ENGINE", "STATE", "MODEL", *[name.upper() for name in _ABILITIES])
_WORDS = {True: "yes", False: "no", None: "?"}
# By which flag an engine can do more; the grammar needs a GPU.
_FLAGS = {
    "grammar": "--enable-structured-output (GPU)",
    "logprobs": "--no-enable-overlap-scheduler",
    "penalties": "--enable-penalties",
}


@dataclass(frozen=True, slots=True)
class SeenEngine:
    """An engine as it answers now, in the words of `GET /health`."""

    url: str
    state: EndpointState
    models: list[str]
    error: str | None
    abilities: dict[str, Abilities]


def show(
    engine_url: EngineUrlOption = None,
    card: CardOption = None,
    config: ConfigOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write JSON, as GET /health has it.")
    ] = False,
) -> None:
    """Ask each engine for its models, and try what they can do.

    Takes the settings of `maxgate serve`. Exits with 1 where an engine is not there.
    """
    export_flags(engine_urls=engine_url, cards=card, config=config)
    settings = load_settings()
    embedding = [c.served_model_name for c in load_cards(settings.cards) if c.task == "embeddings"]
    engines = asyncio.run(look_at(settings, embedding))
    if as_json:
        print(orjson.dumps({"engines": engines}, option=orjson.OPT_INDENT_2).decode())
    else:
        print(_table(engines), *_advice(engines), sep="\n")
    away = [f"{engine.url} ({engine.error})" for engine in engines if engine.error]
    if away:
        raise EngineError(
            f"no engine at {', '.join(away)}: start MAX there with `maxgate engine start`, "
            "or say where it is with --engine-url"
        )


async def look_at(settings: Settings, embedding_models: Collection[str]) -> list[SeenEngine]:
    """The engines in the order of their URLs; models for embeddings are not tried."""
    transport = EngineTransport(settings.upstream)
    upstream = settings.upstream

    async def one(url: str) -> SeenEngine:
        try:
            models = await list_models(client, url, seconds=upstream.probe_timeout)
        except NotListed as error:
            return SeenEngine(url, "unreachable", [], str(error), {})
        names = sorted(models)
        tried = [name for name in names if name not in embedding_models]
        abilities = await probe_abilities(client, url, tried, seconds=upstream.ability_timeout)
        return SeenEngine(url, "healthy", names, None, abilities)

    async with probe_client(transport, upstream.probe_timeout) as client:
        return await asyncio.gather(*[one(url.rstrip("/")) for url in settings.engine_urls])


def _table(engines: Sequence[SeenEngine]) -> str:
    rows = [_HEAD]
    for engine in engines:
        for model in engine.models or ["-"]:
            found = engine.abilities.get(model)
            known = [_WORDS[getattr(found, name)] if found else "-" for name in _ABILITIES]
            rows.append((engine.url, engine.state, model, *known))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _advice(engines: Sequence[SeenEngine]) -> list[str]:
    missing = {
        name: flag
        for name, flag in _FLAGS.items()
        if any(getattr(a, name) is False for e in engines for a in e.abilities.values())
    }
    return [f"{name}: MAX has it when started with {flag}" for name, flag in missing.items()]
