"""Tests of raw records: joining, selecting, and files of current and older versions."""

from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maxgate.results.files import ReportError
from maxgate.results.records import Records, join, read_records, write_records
from tests.fakes.load_records import records, request_record


def rows(of: Records) -> list[tuple[int, float, str, list[float], list[float]]]:
    """Return index, send time, error, arrival times and their uncertainty of each request."""
    ends = np.cumsum(of["chunks"])
    return [
        (
            int(of["index"][k]),
            float(of["sent"][k]),
            of.errors[of["error"][k]],
            of.stamps[ends[k] - of["chunks"][k] : ends[k]].tolist(),
            of.arrival_uncertainty[ends[k] - of["chunks"][k] : ends[k]].tolist(),
        )
        for k in range(len(of))
    ]


FIRST = records(
    request_record(0, sent=1.0, outputs=(1.1, 1.2), arrival_uncertainty=array("d", (0, 0.01))),
    request_record(2, sent=3.0, outputs=(), error="timeout"),
)
SECOND = records(
    request_record(1, sent=2.0, outputs=(2.5,), arrival_uncertainty=array("d", (0.02,))),
    request_record(3, sent=4.0, outputs=(), error="http_503"),
)
ALL = [
    (0, 1.0, "", [1.1, 1.2], [0.0, 0.01]),
    (1, 2.0, "", [2.5], [0.02]),
    (2, 3.0, "timeout", [], []),
    (3, 4.0, "http_503", [], []),
]


def test_join_sorts_by_send_time() -> None:
    """Joined records are ordered by send time and keep all values."""
    assert rows(join([SECOND, FIRST])) == ALL


def test_round_trip(tmp_path: Path) -> None:
    """Written levels read back equal, and no temporary file remains."""
    write_records([FIRST, join([FIRST, SECOND])], tmp_path / "run.records.npz")
    first, both = read_records(tmp_path / "run.records.npz")
    assert (rows(first), rows(both)) == (rows(FIRST), ALL)
    assert [path.name for path in tmp_path.iterdir()] == ["run.records.npz"]


def test_older_file_without_uncertainty(tmp_path: Path) -> None:
    """A file without the `held` array reads with an uncertainty of 0."""
    path = tmp_path / "old.records.npz"
    write_records([SECOND], path)
    with np.load(path) as file:
        old = {name: file[name] for name in file.files if not name.endswith("/held")}
    np.savez_compressed(path, allow_pickle=False, **old)
    (read,) = read_records(path)
    assert rows(read) == [(1, 2.0, "", [2.5], [0.0]), ALL[3]]


@pytest.mark.parametrize("name", ["stamps", "held"])
@pytest.mark.parametrize("arrivals", [[], [1.0, 2.0], ["soon"]])
def test_mismatched_arrivals_are_rejected(
    tmp_path: Path, name: str, arrivals: list[float | str]
) -> None:
    """Arrays with a wrong length or type are a ReportError."""
    path = tmp_path / "damaged.records.npz"
    write_records([SECOND], path)
    with np.load(path) as file:
        damaged = {key: file[key] for key in file.files} | {f"0/{name}": np.array(arrivals)}
    np.savez_compressed(path, allow_pickle=False, **damaged)
    with pytest.raises(ReportError, match=r"damaged.records.npz: not the raw records"):
        read_records(path)


def test_select_keeps_arrivals() -> None:
    """A selection keeps the arrival times of its rows."""
    both = join([FIRST, SECOND])
    assert rows(both.select(both["index"] == 1)) == [ALL[1]]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"something else"])
def test_invalid_file(tmp_path: Path, content: bytes) -> None:
    """A file without records raises an error that starts with its path."""
    path = tmp_path / "broken.npz"
    path.write_bytes(content)
    with pytest.raises(ReportError, match=r"broken\.npz: not the raw records"):
        read_records(path)


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("side", np.array([0, 2]), "side must be from 0 to 1"),
        ("error", np.array([0, 9]), "error must be from 0 to"),
        ("sent", np.array([1.0, 1e300]), "sent has a time beyond 1e"),
        ("sent", np.array(["now", "x"]), "sent has the type <U3"),
        ("sent", np.array([1.0, np.nan]), "sent has a time that is unknown"),
        ("sent", np.array([-1.0, 1.0]), "sent has a time that is unknown or before the start"),
        ("stamps", np.array([np.inf]), "stamps must be times of at most 1e"),
        ("held", np.array([0.5j]), "held must be times of at most 1e"),
        ("errors", np.array([0.0, np.nan]), "errors must be names, the first of them empty"),
        ("errors", np.array(["http_503", ""]), "errors must be names, the first of them empty"),
        ("turn", np.array([0, 0, 0]), "the columns have different lengths"),
        ("index", np.array([[1]]), "does not have the size of its header"),
        ("x" * 3000, np.zeros((2, 2)), r"\('array 0/x{192}'\)$"),
        ("unknown", np.zeros(20_000_000), "it expands to more than 300 times its size"),
    ],
)
def test_damaged_columns(tmp_path: Path, name: str, values: Any, reason: str) -> None:
    """Columns with values that no load test writes are a ReportError."""
    path = tmp_path / "damaged.records.npz"
    write_records([SECOND], path)
    with np.load(path) as file:
        damaged = {key: file[key] for key in file.files} | {f"0/{name}": values}
    np.savez_compressed(path, allow_pickle=False, **damaged)
    with pytest.raises(ReportError, match=reason):
        read_records(path)
