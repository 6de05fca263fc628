"""`maxgate engines` and `maxgate reload`: the engines of a running gateway."""

import json
from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import quote

import typer

from maxgate.cli.admin_client import AdminRequestFailed, UrlOption, request
from maxgate.cli.canary import canary

JsonOption = Annotated[bool, typer.Option("--json", help="Print the JSON of the admin API.")]
EngineArgument = Annotated[
    str, typer.Argument(help="Id or URL of the engine, as in the list.", metavar="ENGINE")
]
_EFFECTS = {
    "now": "applied",
    "worker_restart": "needs `maxgate restart`",
    "gateway_restart": "needs a new start of `maxgate serve`",
}


def commands() -> typer.Typer:
    """Build the subcommands."""
    app = typer.Typer(
        help="List, add, compare, drain and remove engines of a running gateway.",
        no_args_is_help=True,
    )
    app.command("list")(list_engines)
    app.command("add")(add)
    app.command("drain")(drain)
    app.command("undrain")(undrain)
    app.command("remove")(remove)
    app.command("canary")(canary)
    return app


def list_engines(url: UrlOption, *, as_json: JsonOption = False) -> None:
    """List the engines with their state in all workers."""
    found = request("GET", url, "engines")
    if as_json:
        _print_json(found)
    else:
        _print_table(found["data"])


def add(
    engine_url: Annotated[str, typer.Argument(help="URL of the engine.", metavar="ENGINE_URL")],
    url: UrlOption,
    *,
    weight: Annotated[
        float | None, typer.Option(help="Share of the load relative to others.", show_default="1")
    ] = None,
    max_concurrency: Annotated[
        int | None,
        typer.Option(help="Maximum number of requests per worker.", show_default="no limit"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Add an engine; it gets requests once it has listed its models."""
    optional = {"weight": weight, "max_concurrency": max_concurrency}
    body = {name: value for name, value in optional.items() if value is not None}
    engine = request("POST", url, "engines", {"url": engine_url, **body})
    _print_result(engine, f"added {engine['url']} with the id {engine['id']}", as_json=as_json)


def drain(engine: EngineArgument, url: UrlOption, *, as_json: JsonOption = False) -> None:
    """Start no new requests at an engine; those that run finish."""
    changed = _change(url, engine, {"draining": True})
    text = f"drained {changed['url']}: {changed['in_flight']} requests still run"
    _print_result(changed, text, as_json=as_json)


def undrain(engine: EngineArgument, url: UrlOption, *, as_json: JsonOption = False) -> None:
    """Send requests to a drained engine again."""
    changed = _change(url, engine, {"draining": False})
    _print_result(changed, f"{changed['url']} gets requests again", as_json=as_json)


def remove(engine: EngineArgument, url: UrlOption, *, as_json: JsonOption = False) -> None:
    """Remove an engine; its running requests still finish."""
    found = _find(url, engine)
    deleted = request("DELETE", url, f"engines/{quote(found['id'], safe='')}")
    _print_result(deleted, f"removed {found['url']}", as_json=as_json)


def reload(url: UrlOption, *, as_json: JsonOption = False) -> None:
    """Reload the configuration of a running gateway, as a whole or not at all.

    Prints the settings that have changed, and those that need a restart.
    """
    result = request("POST", url, "reload")
    lines = [_describe_change(change) for change in result["changes"]]
    _print_result(result, "\n".join(lines) or "nothing has changed", as_json=as_json)


def _change(url: str, engine: str, change: dict[str, Any]) -> Any:
    found = _find(url, engine)
    return request("PATCH", url, f"engines/{quote(found['id'], safe='')}", change)


def _find(url: str, engine: str) -> Any:
    """Return the engine with this id or URL; raises AdminRequestFailed."""
    engines = request("GET", url, "engines")["data"]
    plain = engine.rstrip("/").removesuffix("/v1")
    for found in engines:
        if engine == found["id"] or plain == found["url"]:
            return found
    known = ", ".join(f"{found['id']} ({found['url']})" for found in engines)
    raise AdminRequestFailed(f"the gateway has no engine {engine!r}; it has {known or 'none'}")


def _describe_change(change: dict[str, Any]) -> str:
    before, after = change["before"], change["after"]
    if before is None or after is None:
        values = "added" if before is None else "removed"
    else:
        values = f"{before or '-'} -> {after or '-'}"
    return f"{change['setting']}: {values} ({_EFFECTS[change['takes_effect']]})"


def _print_result(content: Any, text: str, *, as_json: bool) -> None:
    if as_json:
        _print_json(content)
    else:
        print(text)


def _print_json(content: Any) -> None:
    print(json.dumps(content, indent=2))


def _print_table(engines: Sequence[dict[str, Any]]) -> None:
    rows = [("ID", "URL", "STATE", "MODELS", "IN FLIGHT", "BREAKER", "WEIGHT")]
    for engine in engines:
        state = f"{engine['state']}, draining" if engine["draining"] else engine["state"]
        models = ", ".join(engine["models"]) or "-"
        in_flight, weight = str(engine["in_flight"]), f"{engine['weight']:g}"
        breaker = _describe_breakers(engine["breakers"])
        rows.append((engine["id"], engine["url"], state, models, in_flight, breaker, weight))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print("  ".join(cells).rstrip())


def _describe_breakers(breakers: dict[str, str]) -> str:
    """Return `closed`, or the models whose breaker is not."""
    states = set(breakers.values()) or {"closed"}
    if len(states) == 1:
        return states.pop()
    return ", ".join(f"{name}: {state}" for name, state in breakers.items() if state != "closed")
