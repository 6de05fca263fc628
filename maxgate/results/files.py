"""Read and write report files."""

from itertools import chain
from pathlib import Path
from typing import Any, Final

import orjson
from pydantic import ValidationError

from maxgate.errors import ConfigurationError
from maxgate.results.output import open_output
from maxgate.results.quoting import shorten
from maxgate.results.report import FORMAT, VERSION, Report
from maxgate.results.validation import find_extreme_values, find_inconsistencies

_MAX_REPORT_BYTES: Final = 32 * 2**20
"""Far above a report of many hours; parsed JSON needs up to 20 times as much memory."""
_HEAD_BYTES: Final = 1000
"""The format is the first field of a report."""


class ReportError(ConfigurationError):
    """A file is not a readable report; the message is one line that starts with the path."""


def write_report(report: Report, path: Path) -> None:
    """Write the report atomically; create missing folders. Raises ConfigurationError."""
    with open_output(path) as file:
        file.write(orjson.dumps(report.model_dump(mode="json")))


def check_replaceable(path: Path) -> None:
    """Check that a report may be written here: an existing file must be a report or empty.

    Raises ConfigurationError.
    """
    if not path.is_file() or not path.stat().st_size:
        return
    with path.open("rb") as file:
        if FORMAT.encode() not in file.read(_HEAD_BYTES):
            raise ConfigurationError(
                f"cannot write {path}: the file exists and is not a report of load_test.py; "
                "choose another name or delete it"
            )


def read_report(path: Path) -> Report:
    """Read and validate a report. Raises ReportError."""
    data = _read_json(path)
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ReportError(f"{path}: not a report of load_test.py")
    if data.get("version") != VERSION:
        raise ReportError(
            f"{path}: report version {shorten(str(data.get('version')))} is not supported, "
            f"only {VERSION}"
        )
    try:
        report = Report.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(shorten(str(part)) for part in first["loc"])
        raise ReportError(f"{path}: {field}: {shorten(first['msg'].lower(), 200)}") from error
    finding = next(chain(find_extreme_values(data), find_inconsistencies(report)), None)
    if finding is not None:
        raise ReportError(f"{path}: {': '.join(finding)}")
    return report


def _read_json(path: Path) -> Any:
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise ReportError(f"{path}: not a regular file")
        with path.open("rb") as file:
            content = file.read(_MAX_REPORT_BYTES + 1)
    except OSError as error:
        raise ReportError(f"{path}: {error.strerror or error}") from error
    if len(content) > _MAX_REPORT_BYTES:
        raise ReportError(
            f"{path}: larger than {_MAX_REPORT_BYTES // 2**20} MiB, not a report of load_test.py"
        )
    if content.startswith(b"PK\x03\x04"):
        raise ReportError(
            f"{path}: a file of raw records, not a report; the report is the .json file beside it"
        )
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        reason = f"invalid or truncated JSON ({error})" if content else "the file is empty"
        raise ReportError(f"{path}: {reason}") from error
