"""Reports on disk: whole or not at all, and one clear line for everything else."""

import re
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from maxgate.results.files import ReportError, read_report, write_report
from maxgate.results.report import Load, Machine, Report, Server, Workload
from tests.conftest import ROOT


def report() -> Report:
    """The smallest one."""
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


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_report(report(), tmp_path / "new" / "r.json")
    assert read_report(tmp_path / "new" / "r.json") == report()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b'{"format": "maxgate-load', "not JSON, or cut off"),
        (b'{"benchmarks": []}', "not a report of load_test.py"),
        (b"[]", "not a report of load_test.py"),
        (b'{"format": "maxgate-load-test", "version": 7}', "version 7 of the report"),
        (b'{"format": "maxgate-load-test", "version": 1}', "created_at: field required"),
    ],
)
def test_what_is_no_report_gets_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(content)
    with pytest.raises(ReportError, match=re.escape(said)) as caught:
        read_report(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="No such file"):
        read_report(tmp_path / "r.json")


def test_fields_of_a_newer_writer_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(orjson.dumps(report().model_dump(mode="json") | {"added_later": 1}))
    assert read_report(path) == report()


def test_the_published_schema_is_the_code() -> None:
    published = orjson.loads((ROOT / "docs" / "load-test-report.schema.json").read_bytes())
    assert published == Report.model_json_schema(mode="serialization")
