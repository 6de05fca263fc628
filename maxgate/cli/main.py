"""The command `maxgate`."""

import sys
from typing import Annotated, Final

import structlog
import typer

from maxgate import __version__
from maxgate.cli import serve
from maxgate.cli.restart import restart
from maxgate.cli.run import run_app
from maxgate.installation import requires_extra
from maxgate.telemetry.log_writer import find_log_stream

_NAME: Final = "maxgate"
# The tools parse their own arguments, --help included.
_FORWARD_ARGUMENTS: Final = {"allow_extra_args": True, "ignore_unknown_options": True}


def main() -> None:
    """Run `maxgate` and exit."""
    # Standard output is for results, which scripts read.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(find_log_stream()))
    app = typer.Typer(
        help="OpenAI-compatible gateway in front of MAX Serve.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    app.callback()(declare_options)
    app.command("serve")(serve.serve)
    app.command("restart")(restart)
    if not {"serve", "restart"} & set(sys.argv[1:2]):
        _add_groups(app)
    for name, command in (("load-test", load_test), ("monitor", monitor), ("report", report)):
        app.command(name, context_settings=_FORWARD_ARGUMENTS, add_help_option=False)(command)
    run_app(app, _NAME, prog_name=_NAME)


def _add_groups(app: typer.Typer) -> None:
    # `maxgate serve`, which keeps running, has no use for the 30 MB that these import.
    from maxgate.cli import (  # noqa: PLC0415
        certs,
        database,
        doctor,
        drill,
        engine,
        engines,
        init,
        keys,
        limits,
        models,
        projects,
        usage,
        users,
    )

    app.command("init")(init.init)
    app.command("reload")(engines.reload)
    app.add_typer(certs.commands(), name="certs")
    app.command("doctor")(doctor.doctor)
    app.command("drill")(drill.drill)
    app.add_typer(database.commands(), name="db")
    app.add_typer(keys.commands(), name="keys")
    app.add_typer(projects.commands(), name="projects")
    app.add_typer(users.commands(), name="users")
    app.add_typer(usage.commands(), name="usage")
    app.add_typer(limits.commands(), name="limits")
    app.add_typer(models.commands(), name="models")
    app.add_typer(engine.commands(), name="engine")
    app.add_typer(engines.commands(), name="engines")


def print_version(chosen: bool) -> None:
    """Print the version and exit if `--version` is given."""
    if chosen:
        print(f"{_NAME} {__version__}")
        raise typer.Exit


def declare_options(
    *,
    version: Annotated[  # handled by its callback, ahead of the missing command
        bool,
        typer.Option(
            "--version", is_eager=True, callback=print_version, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Declare the options of `maxgate` itself."""


def load_test(context: typer.Context) -> None:
    """Load-test an OpenAI-compatible server."""
    with requires_extra(str(context.info_name), "tools"):
        from maxgate.loadtest.cli import main  # noqa: PLC0415  # an extra

        main(context.args, context.command_path)


def monitor(context: typer.Context) -> None:
    """Monitor a gateway, its engines and the host."""
    with requires_extra(str(context.info_name), "tools"):
        from maxgate.monitor.cli import main  # noqa: PLC0415  # an extra

        main(context.args, context.command_path)


def report(context: typer.Context) -> None:
    """Show charts, grades and advice from load test reports."""
    with requires_extra(str(context.info_name), "tools"):
        from maxgate.report.cli import main  # noqa: PLC0415  # an extra

        main(context.args, context.command_path)


def serve_main() -> None:
    """Run `maxgate serve` under the name api_server.py, and exit."""
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(serve.serve)
    run_app(app, _NAME)
