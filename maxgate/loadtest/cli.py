"""The command `load_test.py`."""

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer
from typer.core import TyperGroup
from typing_extensions import override

from maxgate.cli.run import run_app
from maxgate.loadtest.flag_values import parse_targets
from maxgate.loadtest.flags import Flags
from maxgate.loadtest.foreign_flags import translate_arguments
from maxgate.loadtest.merge import merge
from maxgate.loadtest.options import Options
from maxgate.loadtest.run import (
    RECORDS_SUFFIX,
    check_outputs,
    decide_exit_code,
    publish,
    run_load_test,
)


class _Group(TyperGroup):
    """Takes flags of other load generators too."""

    @override
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, translate_arguments(args))

    @override
    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return ["[URL]", "[OPTIONS]"]


def main(arguments: Sequence[str] | None = None, name: str = "load_test.py") -> NoReturn:
    """Run the command with these arguments, or those of this process, and exit.

    0 for success, 1 for a failure such as a missed target, 2 for invalid flags or files.
    """
    app = typer.Typer(
        cls=_Group,
        pretty_exceptions_enable=False,
        add_completion=False,
        invoke_without_command=True,
    )
    app.callback()(run_command)
    app.command("merge")(merge_command)
    run_app(app, name, arguments, prog_name=name)


def run_command(context: typer.Context, **flags: Any) -> int:
    """Load-test an OpenAI-compatible server."""
    if context.invoked_subcommand is not None:
        return 0
    return run_load_test(Flags(**flags).parse(), sys.argv)


# Typer reads options from the signature: those of the command are the fields of `Flags`.
run_command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [
        inspect.Parameter(
            "context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
        ),
        *inspect.signature(Flags).parameters.values(),
    ]
)


def merge_command(
    reports: Annotated[list[Path], typer.Argument(help="Reports of --shard 0/N, 1/N, ...")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Report file (default: results/merged.json)."),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="Limits to judge, such as p95=800ms,throughput=25; none for no verdict.",
            show_default="those of the reports",
        ),
    ] = None,
    targets: Annotated[
        Literal["design"] | None,
        typer.Option(help="Judge the design's targets; --target replaces single limits."),
    ] = None,
    details: Annotated[
        bool, typer.Option("--details", help="Print every metric of each level.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print no summary.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print the report as JSON to standard output.")
    ] = False,
) -> int:
    """Merge the reports of several machines; percentiles are computed from the raw records."""
    limits = parse_targets(target or [], targets) if target or targets else None
    path = output or Path("results") / "merged.json"
    options = Options(output=path, details=details, quiet=quiet, json=json)
    records_paths = [one.with_suffix(RECORDS_SUFFIX) for one in reports if one.name]
    check_outputs(options, [*reports, *records_paths])
    report, records = merge(reports, limits)
    publish(report, records, options)
    return decide_exit_code(report)
