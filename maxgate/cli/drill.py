"""`maxgate drill`: play failures against a scratch copy of the configuration."""

import asyncio
import json
import logging
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from maxgate.cli.options import ConfigOption, export_flags
from maxgate.cli.tables import print_rows, say
from maxgate.errors import ConfigurationError
from maxgate.settings import load_settings

if TYPE_CHECKING:
    from maxgate.drill.failures import Failure
    from maxgate.drill.run import Report

_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def drill(
    *,
    config: ConfigOption = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Failure to play; repeatable.", metavar="NAME", show_default="all"),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(
            help="Scratch PostgreSQL, in which a schema is created.",
            metavar="URL",
            show_default="a scratch SQLite",
        ),
    ] = None,
    redis: Annotated[
        str | None, typer.Option(help="Scratch Redis.", metavar="URL", show_default="none")
    ] = None,
    time_limit: Annotated[
        float, typer.Option(min=1, help="Seconds after which no further failure is played.")
    ] = 90,
    keep: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the logs and configurations of the scratch gateways.",
            metavar="DIR",
            show_default="deleted",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Play failures against a scratch copy of the configuration, and show what clients would see.

    Starts gateways on loopback with scripted engines, and contacts nothing else. Exits with 1 if a
    response breaks the policy of docs/failures.md.
    """
    export_flags({"config": config})
    stores = {"database": database, "redis": redis}
    found = {name: url for name, url in stores.items() if url}
    with _interrupting(), _open_folder(keep) as folder:
        changes, reports = asyncio.run(_run(folder, only or [], found, time_limit))
    if as_json:
        content = {"changes": changes, "failures": [asdict(report) for report in reports]}
        print(json.dumps(content, indent=2))
    else:
        _print_reports(reports)
    verdicts = {report.verdict for report in reports}
    if verdicts & {"broken", "failed"} or "kept" not in verdicts:
        raise typer.Exit(1)


async def _run(
    folder: Path, only: list[str], stores: Mapping[str, str], time_limit: float
) -> tuple[list[str], "list[Report]"]:
    from maxgate.drill.run import FAILURES, Observer, run_drill  # noqa: PLC0415  # slow to import
    from maxgate.drill.scratch import prepare  # noqa: PLC0415
    from maxgate.drill.stores import check_stores  # noqa: PLC0415

    if task := asyncio.current_task():
        for number in _SIGNALS:
            if signal.getsignal(number) is signal.default_int_handler:
                asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    names = [failure.name for failure in FAILURES]
    if unknown := [name for name in only if name not in names]:
        raise typer.BadParameter(
            f"{unknown[0]!r} is not a failure; they are: {', '.join(names)}", param_hint="--only"
        )
    await check_stores(stores)
    scratch = await prepare(load_settings(), folder, stores)
    for change in scratch.changes:
        say(f"In the scratch instance, {change}.")
    progress = _Progress()
    try:
        reports = await run_drill(
            scratch,
            [failure for failure in FAILURES if not only or failure.name in only],
            time_limit=time_limit,
            observer=Observer(progress.start, progress.end),
        )
    finally:
        progress.close()
    return list(scratch.changes), reports


class _Progress:
    """The failure that is played, on one line of a terminal; elsewhere a line per failure."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()

    def start(self, failure: "Failure") -> None:
        if self._is_terminal:
            sys.stderr.write(f"\r\x1b[K{failure.text} ...")
            sys.stderr.flush()

    def end(self, report: "Report") -> None:
        if not self._is_terminal:
            say(f"{report.failure}: {report.verdict}")

    def close(self) -> None:
        if self._is_terminal:
            sys.stderr.write("\r\x1b[K")


@contextmanager
def _interrupting() -> Iterator[None]:
    """Let these signals end the drill as Ctrl-C does, unless they are ignored."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _open_folder(keep: Path | None) -> Iterator[Path]:
    """Yield an empty folder: `keep`, or a temporary one that is deleted at the end."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="maxgate-drill-") as name:
            yield Path(name)
        return
    try:
        keep.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_empty = not any(keep.iterdir())
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigurationError(f"--keep {keep}: not a folder; name a new one") from error
    except OSError as error:
        raise ConfigurationError(f"--keep {keep}: {error.strerror}; name a new one") from error
    if not is_empty:
        raise ConfigurationError(f"--keep {keep}: the folder is not empty; name a new one")
    yield keep.absolute()


def _print_reports(reports: "list[Report]") -> None:
    rows: list[dict[str, Any]] = [
        {
            "failure": report.failure,
            "requests": report.requests or None,
            "clients see": ", ".join(
                f"{count}x {label}" for label, count in (report.responses or {}).items()
            ),
            "retry after": ",".join(report.retry_after or []),
            "longest": f"{report.longest_wait:.1f} s" if report.requests else None,
            "silent": report.cut_silently if report.requests else None,
            "verdict": report.verdict,
        }
        for report in reports
    ]
    print_rows(list(rows[0]), rows, as_json=False)
    for report in reports:
        if report.verdict != "kept":
            print(f"\n{report.name}: {report.verdict}")
            if report.policy:
                print(f"  expected: {report.policy}")
            for breach in report.breaches:
                print(f"  {breach}")
    played = [report for report in reports if report.verdict != "skipped"]
    kept = sum(report.verdict == "kept" for report in played)
    skipped = len(reports) - len(played)
    print(f"\n{kept} of {len(played)} failures as the policy says, {skipped} skipped.")
