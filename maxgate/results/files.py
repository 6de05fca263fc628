"""Reports on disk."""

from pathlib import Path

import orjson
from pydantic import ValidationError

from maxgate.errors import ConfigurationError
from maxgate.results.report import FORMAT, VERSION, Report


class ReportError(ConfigurationError):
    """A file that is no report that can be read here; the text says which, why and what to do."""


def check_writable(path: Path) -> None:
    """Make the folder and try, so that hours of load do not end in a file that cannot be.

    Raises ConfigurationError with why it cannot be written; leaves nothing behind.
    """
    if path.is_dir():
        raise ConfigurationError(f"cannot write {path}: it is a folder")
    draft = _draft_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.touch()
        draft.unlink()
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from error


def _draft_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def write_report(report: Report, path: Path) -> None:
    """Write it whole or not at all; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft_of(path)
    draft.write_bytes(orjson.dumps(report.model_dump(mode="json")))
    draft.replace(path)


def read_report(path: Path) -> Report:
    """The report in this file.

    Raises ReportError with one line that starts with the path.
    """
    try:
        data = orjson.loads(path.read_bytes())
    except OSError as error:
        raise ReportError(f"{path}: {error.strerror or error}") from error
    except orjson.JSONDecodeError as error:
        empty = path.stat().st_size == 0
        why = "the file is empty" if empty else f"not JSON, or cut off ({error})"
        raise ReportError(f"{path}: {why}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ReportError(f"{path}: not a report of load_test.py")
    if data.get("version") != VERSION:
        raise ReportError(
            f"{path}: version {data.get('version')!r} of the report; this program reads {VERSION}"
        )
    try:
        return Report.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ReportError(f"{path}: {where}: {first['msg'].lower()}") from error
