"""Read and write report files."""

from pathlib import Path

import orjson
from pydantic import ValidationError

from maxgate.errors import ConfigurationError
from maxgate.results.report import FORMAT, VERSION, Report


class ReportError(ConfigurationError):
    """A file is not a readable report; the message is one line that starts with the path."""


def draft_path(path: Path) -> Path:
    """Where to write a file before renaming it to `path`, so that it appears complete or never."""
    return path.with_name(f".{path.name}.part")


def check_writable(path: Path) -> None:
    """Check before a run that its results can be written; create missing folders.

    Raises ConfigurationError with the reason.
    """
    if path.is_dir():
        raise ConfigurationError(f"cannot write {path}: it is a folder")
    draft = draft_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.touch()
        draft.unlink()
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from error


def write_report(report: Report, path: Path) -> None:
    """Write the report atomically; create missing folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = draft_path(path)
    draft.write_bytes(orjson.dumps(report.model_dump(mode="json")))
    draft.replace(path)


def read_report(path: Path) -> Report:
    """Read and validate a report. Raises ReportError."""
    try:
        data = orjson.loads(path.read_bytes())
    except OSError as error:
        raise ReportError(f"{path}: {error.strerror or error}") from error
    except orjson.JSONDecodeError as error:
        empty = path.stat().st_size == 0
        reason = "the file is empty" if empty else f"invalid or truncated JSON ({error})"
        raise ReportError(f"{path}: {reason}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ReportError(f"{path}: not a report of load_test.py")
    if data.get("version") != VERSION:
        raise ReportError(
            f"{path}: report version {data.get('version')!r} is not supported, only {VERSION}"
        )
    try:
        return Report.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ReportError(f"{path}: {field}: {first['msg'].lower()}") from error
