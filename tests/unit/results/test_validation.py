"""Reports whose values contradict each other."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from maxgate.results.files import ReportError, read_report
from tests.unit.report.examples import write_example


def refuse(tmp_path: Path, field: str, value: Any) -> str:
    """The message for an example report in which this field has another value."""
    path = write_example(tmp_path / "r.json")
    data = orjson.loads(path.read_bytes())
    *parents, last = field.split(".")
    node = data
    for name in parents:
        node = node[int(name) if isinstance(node, list) else name]
    node[last] = value
    path.write_bytes(orjson.dumps(data))
    with pytest.raises(ReportError) as caught:
        read_report(path)
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "levels.0.requests.succeeded",
            7,
            "levels.0.requests: attempted must be succeeded + failed, and no number negative",
        ),
        ("levels.0.requests.good", 900, "levels.0.requests.good: must be from 0 to 400, got 900"),
        (
            "levels.0.window_seconds",
            -1.0,
            "levels.0.window_seconds: must be from 0 to 34560000, got -1",
        ),
        ("levels.0.rate", 1e300, "levels.0.rate: must be between -1e15 and 1e15, got 1e+300"),
        (
            "levels.0.throughput.requests_interval.low",
            1e9,
            "levels.0.throughput.requests_interval: low 1e+09 is above high 27.4667",
        ),
        (
            "levels.0.metrics.ttft.histogram.counts",
            [1],
            "levels.0.metrics.ttft.histogram: needs one bound more than counts, at most 2000 "
            "counts",
        ),
        (
            "levels.0.metrics.ttft.percentiles",
            {"often": 1.0},
            "levels.0.metrics.ttft.percentiles: 'often' is not a number from 0 to 100",
        ),
        ("definitions", {}, "levels.0.metrics.latency: has no entry in definitions"),
        (
            "records",
            "../../etc/passwd",
            "records: must be the name of a file in the folder of the report",
        ),
        (
            "records",
            "x" * 256,
            "records: must be the name of a file in the folder of the report",
        ),
        (
            "records",
            "two\nlines",
            "records: must be the name of a file in the folder of the report",
        ),
        (
            "levels.0.metrics",
            {"two\nlines": {}},
            "levels.0.metrics.'two\\nlines'.metric: field required",
        ),
        (
            "levels.0.throughput",
            {"x" * 3000: 1e300},
            "levels.0.throughput.requests: field required",
        ),
        (
            "levels.0.requests.errors",
            {"x" * 3000: 2**60},
            "levels.0.requests.errors." + repr("x" * 40) + ": must be between -1e15 and 1e15, "
            "got 1152921504606846976",
        ),
        (
            "command",
            ["x" * 200_000],
            "command.0: has 200000 characters, more than 100000",
        ),
    ],
)
def test_contradictions(tmp_path: Path, field: str, value: Any, message: str) -> None:
    """A report with impossible values is refused with the field and the rule."""
    assert refuse(tmp_path, field, value) == message


def test_size(tmp_path: Path) -> None:
    """A file far larger than a report is refused before it is parsed."""
    path = tmp_path / "r.json"
    with path.open("wb") as file:
        file.truncate(33 * 2**20)
    with pytest.raises(ReportError, match="larger than 32 MiB"):
        read_report(path)
