"""Tests of reading, naming and comparing runs."""

from pathlib import Path

import orjson
import pytest

from maxgate.report.curves import build_curves
from maxgate.report.runs import (
    Run,
    compare_runs,
    explain_incomparable,
    name_levels,
    read_runs,
    select_interval,
)
from maxgate.results.distribution import Interval
from tests.unit.report.examples import level, report, write_example


def test_oldest_run_comes_first(tmp_path: Path) -> None:
    """Runs are sorted by date, named after their files, and duplicates are read once."""
    new = write_example(tmp_path / "b.json", started=5)
    old = write_example(tmp_path / "c.json")
    runs, unread = read_runs([new, old, new])
    assert ([run.name for run in runs], unread) == (["c", "b"], [])
    assert runs[0].report == report()


def test_equal_file_names(tmp_path: Path) -> None:
    """Runs from files with the same name are named after their paths."""
    paths = [write_example(tmp_path / folder / "a.json") for folder in ("x", "y")]
    runs, _ = read_runs(paths)
    assert [run.name for run in runs] == [str(tmp_path / "x/a"), str(tmp_path / "y/a")]


def test_labels(tmp_path: Path) -> None:
    """Labels name the runs in the order of the paths; equal labels are numbered."""
    paths = [write_example(tmp_path / f"{k}.json", started=k) for k in range(3)]
    runs, _ = read_runs(paths[::-1], ["new", "mid", "new"])
    assert [run.name for run in runs] == ["new (2)", "mid", "new"]


def test_default_file_names(tmp_path: Path) -> None:
    """A run whose file has the load test's default name is named after model, server and time."""
    path = write_example(tmp_path / "2026-11-23T12-00-00Z.json")
    (run,), _ = read_runs([path])
    assert run.name == "small at localhost:8000, 11-23 12:00"


def damage_histogram(content: bytes, bounds: list[float]) -> bytes:
    """Return the report with these bounds and one count in its first histogram."""
    data = orjson.loads(content)
    damaged = {"bounds": bounds, "counts": [1]}
    data["levels"][0]["metrics"]["latency"]["histogram"] = damaged
    return orjson.dumps(data)


def test_unreadable_files(tmp_path: Path) -> None:
    """Each unreadable file gives one line with the reason, and the others are read."""
    good = write_example(tmp_path / "good.json")
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
        "bounds": damage_histogram(whole, [0.0, 1.0]),
        "counts": damage_histogram(whole, [1.0]),
    }
    for name, content in contents.items():
        (tmp_path / f"{name}.json").write_bytes(content)
    paths = [tmp_path / f"{name}.json" for name in (*contents, "gone", "good")]
    runs, unread = read_runs([*paths, tmp_path])
    assert [run.name for run in runs] == ["good"]
    reasons = [line.removeprefix(f"{tmp_path}").partition(": ")[2] for line in unread]
    assert [reason.partition(" (")[0] for reason in reasons] == [
        "the file is empty",
        "invalid or truncated JSON",
        "invalid or truncated JSON",
        "not a report of load_test.py",
        "not a report of load_test.py",
        "report version 0 is not supported, only 1",
        "levels: input should be a valid list",
        "levels.0.metrics.latency.histogram: bounds must ascend from above 0, and no count be "
        "negative",
        "levels.0.metrics.latency.histogram: needs one bound more than counts, at most 2000 counts",
        "No such file or directory",
        "Is a directory",
    ]
    assert all("\n" not in line for line in unread)


def test_level_names(tmp_path: Path) -> None:
    """Levels are named by run, level and side."""
    path = write_example(tmp_path / "a.json", level(8), level(8, side="baseline"))
    (run,), _ = read_runs([path])
    names = [name for name, _ in run.name_levels()]
    assert names == ["a: concurrency 8", "a baseline: concurrency 8"]


def verdicts(before: Run, after: Run) -> dict[str, str]:
    """Return the verdict by metric and statistic."""
    return {f"{c.metric} {c.statistic}": c.verdict for _, c in compare_runs([before, after])}


def test_slower_run_is_worse() -> None:
    """A slower run with failures is worse where it differs, and a faster run is better."""
    before = Run("before", report(level(8)))
    slower = Run("after", report(level(8, latency=0.4, seed=2, failed=40)))
    assert verdicts(before, slower) == {
        "latency p50": "worse",
        "latency p95": "worse",
        "latency p99": "worse",
        "ttft p50": "same",
        "ttft p95": "same",
        "tpot p50": "worse",
        "throughput rate": "worse",
        "error_rate rate": "worse",
    }
    faster = Run("after", report(level(8, latency=0.2, seed=2)))
    assert verdicts(before, faster)["latency p95"] == "better"
    assert verdicts(before, faster)["throughput rate"] == "better"


def test_change_has_interval() -> None:
    """A change has the difference and an interval around it."""
    pair = [Run("a", report(level(8))), Run("b", report(level(8, latency=0.4, seed=2)))]
    name, change = compare_runs(pair)[0]
    assert (name, change.metric, change.statistic, change.level) == (
        "b", "latency", "p50", "concurrency 8",
    )  # fmt: skip
    assert change.difference == pytest.approx(0.1, rel=0.15)
    assert change.interval is not None
    assert change.interval.low < change.difference < change.interval.high  # type: ignore[operator]


def test_few_requests_are_unclear() -> None:
    """A difference between runs is unclear if one has too few requests."""
    few = Run("b", report(level(8, count=5, latency=0.9)))
    assert verdicts(Run("a", report(level(8))), few)["latency p50"] == "unclear"


def test_interval_of_small_sample() -> None:
    """An interval in a report is not used if the sample is too small for it."""
    found = level(8, count=60).metrics["latency"]
    wide = found.model_copy(update={"intervals": {"95": Interval(low=0.1, high=0.2)}})
    more = wide.model_copy(update={"count": 72})
    blank = more.model_copy(update={"percentiles": {"95": None}})
    assert (select_interval(wide, "95"), select_interval(blank, "95")) == (None, None)
    assert select_interval(more, "95") == Interval(low=0.1, high=0.2)


def test_different_workloads_are_not_compared() -> None:
    """Runs of different workloads have no changes, and a line explains it."""
    pair = [Run("a", report(level(8))), Run("b", report(level(8), fingerprint="0" * 64))]
    assert compare_runs(pair) == []
    assert explain_incomparable(pair) == [
        "b and a have different workloads: their results are shown side by side but not compared"
    ]
    assert (compare_runs([]), explain_incomparable([])) == ([], [])


def test_unmatched_levels_are_skipped() -> None:
    """Levels that only one of the runs has are not compared."""
    pair = [Run("a", report(level(1))), Run("b", report(level(8)))]
    assert (compare_runs(pair), explain_incomparable(pair)) == ([], [])


def test_false_alarms_are_rare() -> None:
    """Of 20 runs of the same server, fewer than 6 differ from the first."""
    first = Run("a", report(level(8, count=120, seed=100)))
    others = [Run("b", report(level(8, count=120, seed=seed))) for seed in range(20)]
    found = [verdicts(first, other)["latency p50"] for other in others]
    # 5 % of 20 is 1, but the deviation of the first run is in every comparison.
    assert sum(verdict != "same" for verdict in found) < 6


def test_only_run_of_several_scenarios(tmp_path: Path) -> None:
    """Levels of an only run are named after their scenarios; those of several runs after both."""
    levels = [level(8, scenario=name) for name in ("short", "long")]
    paths = [tmp_path / f"{name}.json" for name in "ab"]
    for path in paths:
        one = report(*levels)
        workload = one.workload.model_copy(update={"scenarios": ["short", "long"]})
        path.write_text(one.model_copy(update={"workload": workload}).model_dump_json())
    only, both = (read_runs(found)[0] for found in (paths[:1], paths))
    assert [name for name, _ in name_levels(only)] == [
        "short: concurrency 8",
        "long: concurrency 8",
    ]
    assert [name for name, _ in name_levels(both)] == [
        f"{run} {scenario}: concurrency 8" for run in "ab" for scenario in ("short", "long")
    ]
    assert {curve.name for curve in build_curves(only)} == {"short", "long"}
