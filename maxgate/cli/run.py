"""Running a command line with one-line errors and standard exit codes.

0 for success, 1 for a failure, 2 for a usage or configuration error, 130 for Ctrl-C.
"""

import asyncio
import errno
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import typer
from typer.core import TyperCommand

from maxgate.auth.api_key import redact_keys
from maxgate.cli.encoding import accept_any_text
from maxgate.errors import ConfigurationError, MaxgateError


class Interrupted(MaxgateError):
    """The command was interrupted before it had a result."""


_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""Errors of a disk, a quota or a file that cannot grow."""

# Typer bundles its own click; this finds that click's base exception.
_CLICK_EXCEPTION: Final = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)


def run(
    command: Callable[..., Any],
    name: str,
    arguments: Sequence[str] | None = None,
    *,
    cls: type[TyperCommand] | None = None,
) -> NoReturn:
    """Run one command with these arguments, or those of the process, and exit."""
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command(cls=cls)(command)
    run_app(app, name, arguments, prog_name=name)


def run_app(
    app: typer.Typer,
    name: str,
    arguments: Sequence[str] | None = None,
    *,
    prog_name: str | None = None,
) -> NoReturn:
    """Run an application of one or several commands, and exit.

    `name` starts every error message; `prog_name` is the command's name in --help.
    """
    _open_closed_streams()
    accept_any_text()
    try:
        code = _run(app, name, arguments, prog_name)
        sys.stdout.flush()  # at exit, an error would have no message of ours
    except BrokenPipeError:
        # The reader of our output has exited, as `head` does.
        _discard_output()
        code = 0
    except OSError as error:
        if error.errno not in _FULL:
            raise
        _discard_output()
        code = _fail(name, f"cannot write: {error.strerror}", 1)
    sys.exit(code or 0)


def _open_closed_streams() -> None:
    """Replace standard streams that the parent process has closed, as `>&-` does.

    They are None in Python, and their descriptors would go to the next file or socket.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = Path(os.devnull).open(mode)  # noqa: SIM115  # until the process ends
            setattr(sys, name, stream)


def _run(
    app: typer.Typer, name: str, arguments: Sequence[str] | None, prog_name: str | None
) -> int:
    """Run the application, and turn errors into a line and an exit code."""
    try:
        code: int = app(args=arguments, prog_name=prog_name, standalone_mode=False)
    except ConfigurationError as error:
        code = _fail(name, str(error), 2)
    except Interrupted as error:
        code = _fail(name, str(error), 130)
    except MaxgateError as error:
        code = _fail(name, str(error), 1)
    except (KeyboardInterrupt, asyncio.CancelledError, typer.Abort):
        code = 130
    except Exception as error:
        if not isinstance(error, _CLICK_EXCEPTION):
            raise
        code = _fail_usage(name, error)
    return code


def _discard_output() -> None:
    """Python flushes stdout once more at exit, which would raise again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail_usage(name: str, error: Any) -> int:
    # Its message is the whole --help text, which has been printed already.
    if type(error).__name__ == "NoArgsIsHelpError":
        return 2
    return _fail(name, f"{_format_error(error)} (--help lists the options)", 2)


def _format_error(error: Exception) -> str:
    text: str = error.format_message() if hasattr(error, "format_message") else str(error)
    return " ".join(text.split()).removesuffix(".").replace("Value error, ", "")


def _fail(name: str, message: str, code: int) -> int:
    print(f"{name}: {redact_keys(message)}", file=sys.stderr)
    return code
