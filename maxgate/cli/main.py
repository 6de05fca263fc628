"""The command `maxgate`."""

from typing import Final

import typer

from maxgate.cli import engine, models, serve
from maxgate.cli.run import run_app

_NAME: Final = "maxgate"


def main() -> None:
    """Run `maxgate` and exit."""
    app = typer.Typer(
        help="OpenAI-compatible gateway in front of MAX Serve.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    app.command("serve")(serve.serve)
    app.add_typer(models.commands(), name="models")
    app.add_typer(engine.commands(), name="engine")
    run_app(app, _NAME)


def serve_main() -> None:
    """Run `maxgate serve` under the name api_server.py, and exit."""
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(serve.serve)
    run_app(app, _NAME)
