"""Tests of report files: round trips, one-line errors and the published schema."""

import re
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from maxgate.results.files import ReportError, read_report, write_report
from maxgate.results.report import Load, Machine, Report, Server, Workload
from tests.conftest import ROOT


def report() -> Report:
    """Build a minimal report."""
    machine = Machine(system="Linux", processor="x", cores=1, memory_bytes=None, python="3.11")
    workload = Workload(scenarios=["short"], stream=True, max_tokens=1, cold=False, fingerprint="f")
    load = Load(
        kind="closed", duration_seconds=1, requests=None, warmup_requests=0, timeout_seconds=1
    )
    return Report(
        created_at=datetime(2030, 1, 1, tzinfo=UTC),
        command=["load_test.py"],
        seed=0,
        server=Server(url="http://h:1", model="m"),
        machine=machine,
        versions={},
        workload=workload,
        load=load,
        definitions={},
        levels=[],
    )


def test_round_trip(tmp_path: Path) -> None:
    """A report reads back equal, from a folder that was created."""
    write_report(report(), tmp_path / "new" / "r.json")
    assert read_report(tmp_path / "new" / "r.json") == report()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b'{"format": "maxgate-load', "invalid or truncated JSON"),
        (b'{"benchmarks": []}', "not a report of load_test.py"),
        (b"[]", "not a report of load_test.py"),
        (
            b'{"format": "maxgate-load-test", "version": 7}',
            "report version 7 is not supported, only 1",
        ),
        (b'{"format": "maxgate-load-test", "version": 1}', "created_at: field required"),
    ],
)
def test_invalid_report(tmp_path: Path, content: bytes, reason: str) -> None:
    """An invalid file raises a one-line error that starts with its path."""
    path = tmp_path / "r.json"
    path.write_bytes(content)
    with pytest.raises(ReportError, match=re.escape(reason)) as caught:
        read_report(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_raw_records(tmp_path: Path) -> None:
    """The file of raw records is refused with the way to the report."""
    path = tmp_path / "a.records.npz"
    path.write_bytes(b"PK\x03\x04....")
    with pytest.raises(ReportError) as caught:
        read_report(path)
    assert str(caught.value) == (
        f"{path}: a file of raw records, not a report; the report is the .json file beside it"
    )


def test_missing_file(tmp_path: Path) -> None:
    """A missing file is a ReportError."""
    with pytest.raises(ReportError, match="No such file"):
        read_report(tmp_path / "r.json")


def test_unknown_fields_are_ignored(tmp_path: Path) -> None:
    """A report with fields of a newer version is read without them."""
    path = tmp_path / "r.json"
    path.write_bytes(orjson.dumps(report().model_dump(mode="json") | {"added_later": 1}))
    assert read_report(path) == report()


def test_published_schema_is_current() -> None:
    """docs/load-test-report.schema.json equals the schema of the models."""
    published = orjson.loads((ROOT / "docs" / "load-test-report.schema.json").read_bytes())
    assert published == Report.model_json_schema(mode="serialization")
