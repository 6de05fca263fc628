"""Running a command so that whatever is wrong is one line and an exit code.

0 for what went well, 1 for what failed, 2 for a mistake in the command, 130 for Ctrl-C.
"""

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

import typer

from maxgate.errors import ConfigurationError, MaxgateError


class Interrupted(MaxgateError):
    """It was ended before there was anything to show; the text says so."""


# Typer hides which click it carries; its own exceptions are the way to click's.
_MISTAKES: Final = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)


def run(command: Callable[..., Any], name: str, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command with these arguments, or this process's own, and exit."""
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(command)
    run_app(app, name, arguments, prog_name=name)


def run_app(
    app: typer.Typer,
    name: str,
    arguments: Sequence[str] | None = None,
    *,
    prog_name: str | None = None,
) -> NoReturn:
    """Run an application of one command or several, as `run` does, and exit.

    `name` is what speaks in error messages, `prog_name` what --help calls the command.
    """
    try:
        code = app(args=arguments, prog_name=prog_name, standalone_mode=False)
    except ConfigurationError as error:
        code = _fail(name, str(error), 2)
    except Interrupted as error:
        code = _fail(name, str(error), 130)
    except MaxgateError as error:
        code = _fail(name, str(error), 1)
    except (KeyboardInterrupt, asyncio.CancelledError, typer.Abort):
        code = 130
    except BrokenPipeError:
        # Whoever read has gone, as `head` does; Python would complain once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:
        if not isinstance(error, _MISTAKES):
            raise
        code = _mistake(name, error)
    sys.exit(code or 0)


def _mistake(name: str, error: Any) -> int:
    # Nothing was asked, and its message, the whole of --help, has been printed.
    if type(error).__name__ == "NoArgsIsHelpError":
        return 2
    return _fail(name, f"{_message(error)} (--help lists the options)", 2)


def _message(error: Exception) -> str:
    said: str = error.format_message() if hasattr(error, "format_message") else str(error)
    return " ".join(said.split()).removesuffix(".").replace("Value error, ", "")


def _fail(name: str, message: str, code: int) -> int:
    print(f"{name}: {message}", file=sys.stderr)
    return code
