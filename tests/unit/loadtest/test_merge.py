"""Merging the shards of a run."""

from pathlib import Path

import pytest

from maxgate.loadtest.analysis.level_report import build_level
from maxgate.loadtest.merge import merge
from maxgate.results.files import ReportError, read_report, write_report
from maxgate.results.metrics import DEFINITIONS
from maxgate.results.records import write_records
from maxgate.results.report import Grade, Report, Server
from tests.fakes.load_records import records, request_record
from tests.unit.loadtest.analysis.test_level_report import plan
from tests.unit.results.test_files import report


def part(folder: Path, name: str, shard: str | None, *, pairs: int = 8) -> Path:
    """Write a report with raw records: pairs in which the target takes 10 ms longer."""
    first = 0 if shard is None else int(shard[0])
    both = []
    for index in range(first, 2 * pairs, 2):
        for place, side in enumerate((0, 1) if index % 4 < 2 else (1, 0)):
            sent = 1.0 + index + place / 2
            outputs = (sent + 0.1 - side / 100,)
            both.append(request_record(index, side=side, sent=sent, outputs=outputs))
    raw = records(*both)
    levels = [build_level(plan(side=side), raw) for side in ("baseline", "target")]
    path = folder / name
    write_records([raw], path.with_suffix(".records.npz"))
    known = report()
    whole: Report = known.model_copy(
        update={
            "definitions": DEFINITIONS,
            "levels": levels,
            "baseline": Server(url="http://b:1", model="m"),
            "load": known.load.model_copy(update={"shard": shard}),
            "records": path.with_suffix(".records.npz").name,
        }
    )
    write_report(whole, path)
    return path


def test_merge_pairs(tmp_path: Path) -> None:
    """Pairs of all machines are compared together: each machine alone has too few."""
    parts = [part(tmp_path, f"{k}.json", f"{k}/2") for k in (0, 1)]
    merged, (raw,) = merge(parts, {})
    (mean,) = (c for c in merged.paired if (c.metric, c.statistic) == ("latency", "mean"))
    assert sorted(raw["index"]) == sorted([*range(16), *range(16)])
    assert (mean.verdict, mean.difference) == ("worse", pytest.approx(0.01))


@pytest.mark.parametrize(
    ("shards", "message"),
    [
        (("0/2", "0/2"), "1.json: shard 0/2 is already in {folder}/0.json"),
        (("0/3", "2/3"), "0.json: missing shards: 1/3"),
        ((None,), "0.json: not part of a sharded run (no --shard)"),
    ],
)
def test_invalid_parts(tmp_path: Path, shards: tuple[str | None, ...], message: str) -> None:
    """A missing, duplicate or unsharded part is an error."""
    parts = [part(tmp_path, f"{k}.json", shard) for k, shard in enumerate(shards)]
    with pytest.raises(ReportError) as caught:
        merge(parts, {})
    assert str(caught.value).endswith("/" + message.format(folder=tmp_path))


def test_targets_of_the_shards(tmp_path: Path) -> None:
    """Without targets of its own, a merge judges those that the shards were given."""
    parts = [part(tmp_path, f"{k}.json", f"{k}/2") for k in (0, 1)]
    given = Grade(
        target="throughput", level="x", limit=900, better="higher", value=1, unit="requests/s",
        count=8, verdict="fail", reason="",
    )  # fmt: skip
    for path in parts:
        write_report(read_report(path).model_copy(update={"grades": [given]}), path)
    limits = [
        [(grade.target, grade.limit) for grade in merge(parts, targets)[0].grades]
        for targets in (None, {}, {"p50": 1.0})
    ]
    assert limits == [[("throughput", 900)], [], [("p50", 1.0)]]


def test_records_of_another_run(tmp_path: Path) -> None:
    """Raw records with another number of levels than the report are refused."""
    parts = [part(tmp_path, f"{k}.json", f"{k}/2") for k in (0, 1)]
    raw = records(request_record())
    write_records([raw, raw], parts[1].with_suffix(".records.npz"))
    with pytest.raises(ReportError, match=r"has 2 levels, but the report .* has 1"):
        merge(parts, {})
