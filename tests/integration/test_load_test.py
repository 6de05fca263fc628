"""The load test against the mock server, whose timestamps are the true values."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from resource import RLIMIT_NOFILE, setrlimit

import numpy as np
import pytest

from maxgate.loadtest.analysis.metrics import count_in_flight
from maxgate.loadtest.messages import Job, LoadShape, Progress, RequestShape, Target
from maxgate.loadtest.mock_server.script import Script
from maxgate.loadtest.mock_server.server import start_mock_server
from maxgate.loadtest.options import Options
from maxgate.loadtest.worker_pool import start_worker_pool
from maxgate.results.files import read_report
from maxgate.results.records import Records, read_records
from maxgate.results.report import Report
from tests.conftest import ROOT
from tests.oracles.scripted import Run, findings, run_scripted, truth

pytestmark = pytest.mark.timing

SHORT = Script(first=0.02, chunks=10, gap=0.004)


async def measured(script: Script, **fields: object) -> Run:
    """Measure this script for 0.6 s."""
    given: dict[str, object] = {"scenarios": ("short",), "concurrency": (4,), "duration": 0.6}
    given["calibration"] = 0.0
    return await run_scripted(script, Options(**(given | fields)))  # type: ignore[arg-type]


def close_enough(run: Run, *, from_departure: bool = False) -> None:
    """Medians are true within the printed error bar, the limits, or a millisecond.

    benchmarks/loadtest/ground_truth.py checks all percentiles; beside other tests, tails would
    measure the machine.
    """
    for one in findings(run, truth(run, from_departure=from_departure)):
        if one.statistic == "P50":
            off = abs(one.measured - one.true)
            assert one.within_error_bar or one.within_limits or off < 0.001, one


async def test_stall_and_role_chunk() -> None:
    """One stall per request is found, and an early role chunk is not the first token."""
    script = SHORT.model_copy(update={"stall_before": 5, "stall": 0.35, "role_after": 0.001})
    run = await measured(script, warmup=0, calibration=1.0)
    close_enough(run)
    level = run.level
    assert level.metrics["ttft"].client_error is not None
    assert level.chunks is not None
    assert level.chunks.stalls == level.requests.succeeded > 0
    first_byte = level.metrics["ttfb"].max
    assert first_byte is not None
    assert first_byte < 0.02


async def test_several_tokens_per_chunk() -> None:
    """Nine tokens in a chunk count as nine."""
    run = await measured(SHORT.model_copy(update={"tokens_per_chunk": 9}))
    close_enough(run)
    assert run.level.chunks is not None
    assert run.level.chunks.tokens_per_chunk == 9
    assert run.level.tokens.output == run.level.requests.succeeded * 10 * 9


async def test_no_usage() -> None:
    """Without usage the report counts chunks and says so."""
    run = await measured(SHORT.model_copy(update={"usage": False}))
    assert run.level.tokens.counted_by == "chunks"
    assert run.level.tokens.output == run.level.requests.succeeded * 10


async def test_two_events_in_a_packet() -> None:
    """Two events in a packet share a read."""
    run = await measured(SHORT.model_copy(update={"packing": "two_in_a_packet"}))
    close_enough(run)
    assert run.level.chunks is not None
    assert run.level.chunks.shared_reads >= run.level.chunks.count // 2


async def test_event_in_two_packets() -> None:
    """An event in two packets arrives with the second."""
    run = await measured(SHORT.model_copy(update={"packing": "split"}))
    close_enough(run)
    assert run.level.chunks is not None
    assert run.level.chunks.count == run.level.requests.succeeded * 10


async def test_refusals() -> None:
    """Instant refusals are failures, not fast responses."""
    script = SHORT.model_copy(update={"refuse": 0.3})
    run = await measured(script, duration=None, requests=100, warmup=0)
    close_enough(run)
    refused = sum(script.refuses(index) for index in range(100))
    assert run.level.requests.errors == {"http_503": refused}
    latency = run.level.metrics["latency"]
    assert (latency.min or 0) > 0.05
    assert latency.including_failures["95"] is None


async def test_freeze() -> None:
    """Requests scheduled during a freeze of 1 s include the wait in their latency."""
    script = Script(first=0.02, chunks=1, freeze_after=1.0, freeze=1.0)
    run = await measured(script, concurrency=(), rates=(50.0,), duration=3.0, calibration=0.0)
    late = run.level.metrics["response_latency"]
    slow = np.array(run.records["last_output"] - run.records["scheduled"]) > 0.1
    # 46 requests leave in the first 0.92 s of the freeze and wait longer than 0.1 s.
    assert 43 <= slow.sum() <= 52
    assert late.max == pytest.approx(1.02, abs=0.1)


@asynccontextmanager
async def load(script: Script, shape: LoadShape, processes: int = 1) -> AsyncIterator[Records]:
    """The records of this load from this number of processes."""
    job = Job(
        run_id="test",
        targets=[],
        requests=RequestShape(scenario="short", seed=1, stream=True, max_tokens=5),
        load=shape,
        timeout=10,
        grace=5,
        shard=0,
        shards=1,
        records="",
    )
    async with start_mock_server(script) as url, start_worker_pool(processes) as pool:
        job = job.model_copy(update={"targets": [Target(url=url, model="m")]})
        yield (await pool.run(job, _ignore)).records


def _ignore(progress: Progress) -> None:
    pass


@pytest.mark.parametrize(("concurrency", "processes"), [(7, 3), (500, 1)])
async def test_concurrency(concurrency: int, processes: int) -> None:
    """The number in flight equals the configured concurrency."""
    slow = Script(first=0.3, chunks=2, gap=0.2)
    shape = LoadShape(kind="closed", concurrency=concurrency, duration=1.5)
    async with load(slow, shape, processes) as records:
        in_flight = count_in_flight(records["sent"], records["ended"])
    assert in_flight.maximum() == concurrency
    # All slots are busy between the first wave and the last departure.
    begin, end = np.sort(records["sent"])[[concurrency - 1, -1]]
    assert in_flight.mean(begin, end) == pytest.approx(concurrency, rel=0.04)


async def test_processes_share_one_schedule() -> None:
    """Three processes send every request of the schedule once, on time."""
    shape = LoadShape(kind="open", arrivals="poisson", rate=100, duration=1.0)
    async with load(Script(first=0.01, chunks=1), shape, 3) as records:
        pass
    async with load(Script(first=0.01, chunks=1), shape, 1) as alone:
        pass
    assert sorted(records["index"]) == list(range(len(records)))
    assert sorted(set(records["worker"])) == [0, 1, 2]
    planned = [sorted(one["scheduled"]) for one in (records, alone)]
    assert planned[0] == pytest.approx(planned[1], abs=1e-6)


async def load_test(
    *flags: str,
    interrupt_after: float | None = None,
    by: signal.Signals = signal.SIGINT,
    files: tuple[int, int] | None = None,
) -> tuple[int, str]:
    """Run the program, which may open so many files, and return its exit code and output.

    The signal goes to all of its processes, as from a terminal's Ctrl-C or `timeout`.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "load_test.py",
        *flags,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=None if files is None else partial(setrlimit, RLIMIT_NOFILE, files),
    )
    if interrupt_after is not None:
        assert process.stdout is not None
        head = b""
        while b"up to" not in head:
            head += await process.stdout.readline()
        asyncio.get_running_loop().call_later(interrupt_after, os.killpg, process.pid, by)
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


FEW = ("--scenario", "short", "-c", "2", "-n", "30", "--warmup", "2", "--no-calibrate")


async def test_no_verdict_by_default(tmp_path: Path) -> None:
    """A server below the design's throughput is judged only with --targets design."""
    flags = (*FEW, "-o", str(tmp_path / "r.json"))
    async with start_mock_server(Script(first=0.15, chunks=1)) as url:  # at most 14 requests/s
        code, output = await load_test("--url", url, *flags)
        judged, table = await load_test("--url", url, *flags, "--targets", "design")
    assert (code, "Targets" in output) == (0, False)
    assert (judged, "throughput  fail" in table) == (1, True)


async def test_missed_target(tmp_path: Path) -> None:
    """A missed target exits with 1 and keeps report and records."""
    flags = (*FEW, "-o", str(tmp_path / "r.json"))
    async with start_mock_server(SHORT) as url:
        code, output = await load_test("--url", url, *flags, "--target", "throughput=900")
    assert code == 1
    assert "throughput  fail" in output
    report = read_report(tmp_path / "r.json")
    assert report.levels[0].requests.attempted == 30
    assert len(read_records(tmp_path / "r.records.npz")[0]) == 32


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_interrupt(by: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C, SIGTERM and SIGHUP end the level early and keep its results."""
    async with start_mock_server(SHORT) as url:
        flags = ("--url", url, "--scenario", "short,long", "-c", "2", "-d", "60s")
        more = ("--no-calibrate", "--target", "none", "-o", str(tmp_path / "r.json"))
        code, output = await load_test(*flags, *more, interrupt_after=0.7, by=by)
    report = read_report(tmp_path / "r.json")
    assert (code, report.interrupted, len(report.levels)) == (0, True, 1)
    assert 4 <= report.levels[0].requests.succeeded <= 60
    assert "Traceback" not in output


async def test_interrupt_before_start(tmp_path: Path) -> None:
    """Ctrl-C before the start time exits with 130 and writes nothing."""
    async with start_mock_server(SHORT) as url:
        flags = ("--url", url, "-r", "5", "-d", "1s", "--scenario", "short", "--no-calibrate")
        more = ("--start-at", f"{time.time() + 600:.0f}", "-o", str(tmp_path / "r.json"))
        code, output = await load_test(*flags, *more, interrupt_after=0.1)
    assert (code, output.splitlines()[-1]) == (
        130,
        "load_test.py: interrupted before the first result",
    )
    assert os.listdir(tmp_path) == []  # noqa: PTH208  # not a blocking call of pathlib


async def test_start_time_in_the_past(tmp_path: Path) -> None:
    """A start time in the past exits with 2."""
    async with start_mock_server(SHORT) as url:
        flags = ("--url", url, "-r", "5", "-d", "1s", "--scenario", "short", "--no-calibrate")
        more = ("--start-at", "2020-01-01T00:00:00Z", "-o", str(tmp_path / "r.json"))
        code, output = await load_test(*flags, *more)
    assert code == 2
    assert output.splitlines()[-1].startswith(
        "load_test.py: --start-at: this machine became ready "
    )


async def test_compare_with_different_workload(
    tmp_path: Path,
) -> None:
    """A comparison with another workload is rejected before any request."""
    old = tmp_path / "old.json"
    async with start_mock_server(SHORT) as url:
        await load_test("--url", url, *FEW, "--target", "none", "-q", "-o", str(old))
        flags = ("--url", url, *FEW, "--seed", "7", "--compare", str(old))
        code, output = await load_test(*flags, "-o", str(tmp_path / "new.json"))
    assert (code, output.count("\n")) == (2, 1)
    assert output.startswith("load_test.py: --compare: the workloads differ: workload finger")


async def test_merge_shards(tmp_path: Path) -> None:
    """Two shards, merged, hold every request once and exact percentiles."""
    files = [str(tmp_path / f"{number}.json") for number in (0, 1)]
    async with start_mock_server(SHORT) as url:
        start = f"{time.time() + 3:.3f}"
        common = ("--url", url, "--scenario", "short", "-r", "40", "-d", "1s", "--warmup", "0")
        common = (*common, "--start-at", start, "--no-calibrate", "--target", "none", "-q")
        codes = await asyncio.gather(
            *(load_test(*common, "--shard", f"{n}/2", "-o", files[n]) for n in (0, 1))
        )
    assert [code for code, _ in codes] == [0, 0]
    whole = str(tmp_path / "whole.json")
    code, output = await load_test("merge", *files, "-o", whole, "--target", "none", "-q")
    assert (code, output) == (0, "")
    (records,) = read_records(tmp_path / "whole.records.npz")
    level = read_report(Path(whole)).levels[0]
    latency = np.sort(records["last_output"] - records["sent"])
    assert sorted(records["index"]) == list(range(40))
    assert level.requests.succeeded == 40
    assert level.metrics["latency"].percentiles["95"] == latency[37]


async def test_baseline(tmp_path: Path) -> None:
    """Pairs find that the first token of one server is 3 ms later."""
    slower = SHORT.model_copy(update={"first": SHORT.first + 0.003})
    path = tmp_path / "r.json"
    async with start_mock_server(slower) as target, start_mock_server(SHORT) as baseline:
        flags = ("--url", target, "--baseline", baseline, "--target", "none", "-q")
        await load_test(*flags, *FEW[:-3], "--no-calibrate", "-o", str(path))
    report = read_report(path)
    (median,) = (c for c in report.paired if (c.metric, c.statistic) == ("ttft", "p50"))
    assert median.verdict == "worse"
    assert median.difference == pytest.approx(0.003, abs=0.0007)
    assert [level.side for level in report.levels] == ["baseline", "target"]


async def test_regression(tmp_path: Path) -> None:
    """A regression against an earlier report exits with 1."""
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    flags = ("--scenario", "short", "-c", "16", "-n", "220", "--warmup", "16", "--no-calibrate")
    flags = (*flags, "--target", "none", "-q")
    async with start_mock_server(SHORT) as url:
        await load_test("--url", url, *flags, "-o", str(old))
    slower = SHORT.model_copy(update={"first": 0.05})
    async with start_mock_server(slower) as url:
        code, output = await load_test("--url", url, *flags, "-o", str(new), "--compare", str(old))
    assert new.exists(), output
    changes = {(c.metric, c.statistic): c.verdict for c in read_report(new).comparison}
    assert (code, changes["latency", "p50"]) == (1, "worse"), output


async def test_sweep_stops_at_errors(tmp_path: Path) -> None:
    """A sweep stops when a third of the requests fails."""
    path = tmp_path / "r.json"
    async with start_mock_server(SHORT.model_copy(update={"refuse": 0.3})) as url:
        flags = ("--url", url, "--sweep", "--scenario", "short", "-n", "20", "--no-calibrate")
        await load_test(*flags, "--target", "none", "-q", "-o", str(path))
    report: Report = read_report(path)
    assert report.saturation is not None
    assert (report.saturation.found, len(report.levels)) == (True, 1)


async def test_hopeless_run(tmp_path: Path) -> None:
    """A server that refuses everything ends the run, which reports its reason."""
    path = tmp_path / "r.json"
    flags = ("--scenario", "short,long", "-c", "2", "-d", "60s", "--no-calibrate", "-o", str(path))
    async with start_mock_server(SHORT.model_copy(update={"refuse": 1.0})) as url:
        code, output = await load_test("--url", url, *flags)
    report = read_report(path)
    (level,) = report.levels
    assert (code, level.requests.succeeded) == (1, 0)
    assert level.requests.error_messages == {"http_503": "no room"}
    assert "all requests failed: http_503 (no room)" in (report.stopped or "")
    assert "short, concurrency 2: 5 x http_503: no room" in output


async def test_file_limit(tmp_path: Path) -> None:
    """The soft limit of open files is raised, and the hard one is reported as the client's."""
    path = tmp_path / "r.json"
    slow = Script(first=0.3, chunks=1)
    flags = ("--scenario", "short", "-r", "200", "-d", "1s", "--no-calibrate", "-o", str(path))
    found = {}
    async with start_mock_server(slow) as url:
        for name, limits in (("soft", (40, 400)), ("hard", (40, 40))):
            code, output = await load_test("--url", url, *flags, files=limits)
            found[name] = (code, read_report(path).levels[0])
        closed = ("--scenario", "short", "-c", "99", "-o", str(path), "--no-calibrate")
        code, output = await load_test("--url", url, *closed, files=(40, 40))
    soft, hard = found["soft"][1], found["hard"][1]
    assert (soft.requests.failed, soft.client.limited) == (0, False)
    assert list(hard.requests.errors) == ["client_file_limit"]
    assert hard.requests.succeeded > 0
    assert (hard.client.limited, (hard.client.reason or "")[:18]) == (True, "the load generator")
    assert code == 1
    assert "of 99 connections" in output.splitlines()[-1]


async def test_unreachable_server() -> None:
    """An unreachable server exits with 1 and a one-line message."""
    code, output = await load_test("--url", "http://127.0.0.1:9")
    assert (code, output.count("\n")) == (1, 1)
    assert output.startswith("load_test.py: cannot reach http://127.0.0.1:9: ")
