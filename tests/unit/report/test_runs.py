"""Files that are reports are read, and each other one is one line."""

from pathlib import Path

import orjson

from maxgate.report.runs import read_runs
from tests.unit.report.examples import level, report, written


def test_the_oldest_comes_first_and_a_run_goes_by_its_file(tmp_path: Path) -> None:
    new = written(tmp_path / "b.json", started=5)
    old = written(tmp_path / "c.json")
    runs, unread = read_runs([new, old, new])
    assert ([run.name for run in runs], unread) == (["c", "b"], [])
    assert runs[0].report == report()


def test_two_files_of_one_name_go_by_their_paths(tmp_path: Path) -> None:
    paths = [written(tmp_path / folder / "a.json") for folder in ("x", "y")]
    runs, _ = read_runs(paths)
    assert [run.name for run in runs] == [str(tmp_path / "x/a"), str(tmp_path / "y/a")]


def test_every_other_file_is_one_line_that_says_what_it_is(tmp_path: Path) -> None:
    good = written(tmp_path / "good.json")
    whole = good.read_bytes()
    old = orjson.dumps({**orjson.loads(whole), "version": 0})
    odd = orjson.dumps({**orjson.loads(whole), "levels": "many"})
    contents = {
        "empty": b"",
        "cut": whole[:2000],
        "binary": b"\x00\xff\xfe",
        "foreign": b'{"benchmarks": []}',
        "list": b"[1]",
        "old": old,
        "odd": odd,
    }
    for name, content in contents.items():
        (tmp_path / f"{name}.json").write_bytes(content)
    paths = [tmp_path / f"{name}.json" for name in (*contents, "gone", "good")]
    runs, unread = read_runs([*paths, tmp_path])
    assert [run.name for run in runs] == ["good"]
    said = [line.removeprefix(f"{tmp_path}").partition(": ")[2] for line in unread]
    assert [line.partition(" (")[0] for line in said] == [
        "the file is empty",
        "invalid or truncated JSON",
        "invalid or truncated JSON",
        "not a report of load_test.py",
        "not a report of load_test.py",
        "report version 0 is not supported, only 1",
        "levels: input should be a valid list",
        "No such file or directory",
        "Is a directory",
    ]
    assert all("\n" not in line for line in unread)


def test_a_series_is_named_by_run_level_and_side(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", level(8), level(8, side="baseline"))
    (run,), _ = read_runs([path])
    assert [name for name, _ in run.series()] == ["a: concurrency 8", "a: concurrency 8 baseline"]
