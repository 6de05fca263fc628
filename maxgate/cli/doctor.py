"""`maxgate doctor`: find misconfigurations, and the way out of each."""

import asyncio
import json
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

import typer

from maxgate.cli.admin_client import KEY_VARIABLE
from maxgate.cli.options import ConfigOption, export_flags
from maxgate.doctor.findings import Finding, Subject, count, error, run_checks, warning
from maxgate.doctor.host import SystemHost
from maxgate.settings import check_use, load_settings
from maxgate.settings_names import CONFIG_VARIABLE, ENV_FILE_VARIABLE, InvalidSettings
from maxgate.telemetry.logging import configure_logging

_MIN_WIDTH: Final = 60
_MAX_WIDTH: Final = 120
_MAX_OF_KIND: Final = 5
# Up to the last @: a password with a slash makes the URL invalid, and is not shown either.
_USER_INFO: Final = re.compile(r"//.*@")


def doctor(
    *,
    url: Annotated[
        str | None,
        typer.Option(
            help="URL of a running gateway, as its clients use it.",
            show_default="the gateway of this state_dir, if it runs",
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
    strict: Annotated[bool, typer.Option(help="Exit with 1 for warnings, too.")] = False,
) -> None:
    """Check a running installation, or the settings that it would start with.

    Exits with 1 if there are errors. A key in OPENAI_ADMIN_KEY shows the health of the gateway.
    """
    if url is not None:
        _check_url(url)
    export_flags({"config": config})
    findings = _check_all(url and url.rstrip("/").removesuffix("/v1"))
    counts = {level: sum(one.level == level for one in findings) for level in ("error", "warning")}
    if as_json:
        report = {
            "errors": counts["error"],
            "warnings": counts["warning"],
            "findings": [asdict(finding) for finding in findings],
        }
        print(json.dumps(report, indent=2))
    else:
        _print_table(findings)
        print(f"\n{count(counts['error'], 'error')}, {count(counts['warning'], 'warning')}.")
    if counts["error"] or (strict and counts["warning"]):
        raise typer.Exit(1)


def _check_url(url: str) -> None:
    shown = _USER_INFO.sub("//", url)
    if not _is_url(url):
        raise typer.BadParameter(
            f"{shown!r} is not a URL; write https://gateway.example.org", param_hint="--url"
        )
    if "?" in url or "#" in url:
        raise typer.BadParameter(
            f"{shown.partition('?')[0].partition('#')[0]!r}: a base URL has no query and no "
            "fragment; write https://gateway.example.org",
            param_hint="--url",
        )


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _check_all(url: str | None) -> list[Finding]:
    """Read the settings and run all checks; without valid settings, there are no other findings."""
    from maxgate.doctor.checks import CHECKS  # noqa: PLC0415  # SQLAlchemy is slow to import
    from maxgate.doctor.gateway import find_gateway  # noqa: PLC0415

    configure_logging("text", level="error")
    old_names: list[str] = []
    try:
        settings = load_settings(old_names.append)
    except InvalidSettings as reason:
        return [_describe_settings(problem) for problem in reason.problems]
    findings = [
        warning("old_name", message, "use the new name").in_check("settings")
        for message in old_names
    ]
    try:
        check_use(settings)
    except InvalidSettings as reason:
        findings += [_describe_settings(problem) for problem in reason.problems]
    subject = Subject(
        settings,
        SystemHost(),
        url or find_gateway(settings),
        os.environ.get(KEY_VARIABLE, "").strip(),
        config_files=_list_config_files(),
    )
    progress = _Progress()
    try:
        return findings + asyncio.run(run_checks(CHECKS, subject, on_done=progress.update))
    finally:
        progress.close()


def _describe_settings(reason: str) -> Finding:
    message, separator, remedy = reason.partition("; ")
    if not separator:
        remedy = "correct the setting; docs/settings.md lists all settings"
    return error("settings_invalid", message, remedy).in_check("settings")


def _list_config_files() -> list[Path]:
    """Return the files that the settings may come from."""
    names = {CONFIG_VARIABLE: "maxgate.yaml", ENV_FILE_VARIABLE: ".env"}
    paths = [Path(os.environ.get(variable, default)) for variable, default in names.items()]
    return [path.expanduser().absolute() for path in paths if str(path) != "." and path.is_file()]


def _shorten(findings: Sequence[Finding]) -> Iterator[Finding]:
    """Leave out repetitions, and most findings of a kind that there are many of."""
    kinds: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in dict.fromkeys(findings):
        kinds.setdefault((finding.level, finding.check, finding.code), []).append(finding)
    for kind in kinds.values():
        yield from kind if len(kind) <= _MAX_OF_KIND else kind[: _MAX_OF_KIND - 1]
        if (left := len(kind) - _MAX_OF_KIND + 1) > 1:
            text = f"{left} more like the last one; --json lists all"
            yield replace(kind[0], text=text, remedy="")


class _Progress:
    """The number of running checks on one line of a terminal; nothing elsewhere."""

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty()

    def update(self, name: str, left: int) -> None:
        if self._is_shown:
            sys.stderr.write(f"\r\x1b[K{name} checked, {left} left")
            sys.stderr.flush()

    def close(self) -> None:
        if self._is_shown:
            sys.stderr.write("\r\x1b[K")


def _print_table(findings: Sequence[Finding]) -> None:
    """Print a row per finding; the remedy is below the text."""
    width = min(max(shutil.get_terminal_size().columns, _MIN_WIDTH), _MAX_WIDTH)
    indent = 2 + len("warning") + max(len(finding.check) for finding in findings) + 2
    for finding in _shorten(findings):
        head = f"{finding.level:<7}  {finding.check}".ljust(indent)
        text = textwrap.wrap(finding.text, width - indent, break_on_hyphens=False)
        remedy = textwrap.wrap(finding.remedy, width - indent - 2, break_on_hyphens=False)
        print(f"{head}  {text[0]}")
        for line in text[1:]:
            print(" " * indent + f"  {line}")
        for number, line in enumerate(remedy):
            print(" " * indent + f"  {'→' if number == 0 else ' '} {line}")
