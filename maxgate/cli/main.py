"""The command `maxgate`."""

import sys
from collections.abc import Callable

import typer

from maxgate.cli import engine, models, serve
from maxgate.errors import ConfigurationError, MaxgateError


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
    _run(app)


def serve_main() -> None:
    """Run `maxgate serve` under the name api_server.py, and exit."""
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(serve.serve)
    _run(app)


def _run(app: Callable[[], None]) -> None:
    try:
        app()
    except ConfigurationError as error:
        _fail(error, 2)
    except MaxgateError as error:
        _fail(error, 1)
    except KeyboardInterrupt:
        sys.exit(130)


def _fail(error: MaxgateError, code: int) -> None:
    print(f"maxgate: {error}", file=sys.stderr)
    sys.exit(code)
