"""Files of recorded snapshots."""

from dataclasses import replace
from pathlib import Path

import pytest

from maxgate.errors import ConfigurationError
from maxgate.monitor.recording import Recorder, Recording
from maxgate.monitor.snapshot import ContainerReading
from tests.unit.monitor.examples import engine, gateway, gpu, histogram, host, snapshot

SNAPSHOTS = (
    snapshot(0.5),
    snapshot(
        1.5,
        gateway(1, ok=3, failed=1),
        engines=(engine({}, {"preemptions": 1}, batch_size=histogram(3, 2)),),
        host=host(1),
        gpus=(gpu(0.5, "heat"),),
        containers=(ContainerReading("max", "running", 1.0, 2, 3, 4, 5),),
    ),
    snapshot(4.5, gateway(4, ok=3)),
)
# Files with these keys exist, so the keys cannot change.
OLD_FILE = b"""\
{"format":"maxgate-monitor","version":1,"url":"http://gateway"}
{"at":1800000001.0,"elapsed":1.0,"gateway":{"uptime":1.0,"workers":1,"in_flight":2,\
"outcomes":{"ok":1,"timeout":0,"client_error":1},"tokens":{"prompt":100,"completion":10,"cached":0},\
"latency":{"buckets":[[0.198,0.2,1]],"total":0.2},\
"time_to_first_token":{"buckets":[[0.0495,0.05,1]],"total":0.05},\
"time_per_output_token":{"buckets":[[0.0099,0.01,1]],"total":0.01},\
"cpu_seconds":0.1,"resident_bytes":134217728,"engines":[{"url":"http://127.0.0.1:8000",\
"state":"healthy","models":["small"],"in_flight":2,"error":null}]},"gateway_error":null,\
"engines":[{"url":"http://127.0.0.1:8001/metrics","gauges":{"running":1.0,"queued":0.0,\
"kv_used_blocks":5.0,"kv_total_blocks":100.0},"counters":{},"histograms":{},"error":null}],\
"host":{"cores":2,"cpu_busy_seconds":0.5,"cpu_seconds":2.0,"memory_used":4,"memory_total":10,\
"disk_used":3,"disk_total":10},"gpus":[{"index":0,"name":"H200","utilisation":0.5,\
"memory_used":70,"memory_total":140,"power_watts":300.0,"temperature_celsius":60.0,\
"slowed_by":["heat"]}],"containers":[{"name":"max","status":"running","cpu_seconds":1.0,\
"memory_used":2,"memory_limit":3,"periods":4,"throttled_periods":5}]}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A recording of three snapshots."""
    path = tmp_path / "a.jsonl"
    with Recorder(path, "http://gateway") as recorder:
        for one in SNAPSHOTS:
            recorder.write(one)
    return path


def test_existing_file(file: Path) -> None:
    """An existing file is not overwritten."""
    before = file.read_bytes()
    with pytest.raises(ConfigurationError, match=r"a\.jsonl: the file exists; .* --append"):
        Recorder(file, "http://gateway")
    assert file.read_bytes() == before


def test_append(file: Path) -> None:
    """An appended recording continues the clock of the file, whose last line may be cut off."""
    file.write_bytes(file.read_bytes() + b'{"at": 1')
    later = replace(snapshot(0.5), at=SNAPSHOTS[-1].at + 60)
    with Recorder(file, "http://gateway", append=True) as recorder:
        recorder.write(later)
        recorder.write(replace(later, elapsed=1.5))
    recording = Recording(file)
    assert recording.snapshots[:3] == SNAPSHOTS
    assert [one.elapsed for one in recording.snapshots[3:]] == [64.5, 65.5]
    assert recording.damaged == 1


def test_append_to_new_file(tmp_path: Path) -> None:
    """Appending to a file that does not exist creates it; another file is rejected."""
    path, other = tmp_path / "b.jsonl", tmp_path / "notes.txt"
    with Recorder(path, "http://gateway", append=True) as recorder:
        recorder.write(SNAPSHOTS[0])
    assert Recording(path).snapshots == SNAPSHOTS[:1]
    other.write_text("notes")
    with pytest.raises(ConfigurationError, match="not a recording"):
        Recorder(other, "http://gateway", append=True)
    assert other.read_text() == "notes"


def test_round_trip(file: Path) -> None:
    """A recording returns the snapshots that were written."""
    recording = Recording(file)
    assert recording.url == "http://gateway"
    assert (recording.snapshots, recording.damaged) == (SNAPSHOTS, 0)


def test_truncated_file(file: Path) -> None:
    """A truncated recording is readable up to its last full line."""
    file.write_bytes(file.read_bytes()[:-40])
    recording = Recording(file)
    assert (recording.snapshots, recording.damaged) == (SNAPSHOTS[:2], 1)


def test_old_file(tmp_path: Path) -> None:
    """A file written by an earlier version is read."""
    path = tmp_path / "old.jsonl"
    path.write_bytes(OLD_FILE)
    assert Recording(path).snapshots == (
        snapshot(
            1.0,
            gateway(1, ok=1),
            engines=(engine(),),
            host=host(1),
            gpus=(gpu(0.5, "heat"),),
            containers=(ContainerReading("max", "running", 1.0, 2, 3, 4, 5),),
        ),
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\x00\xff", "not a recording of monitor.py"),
        (b'{"format":"maxgate-load-test"}', "not a recording of monitor.py"),
        (b"[]", "not a recording of monitor.py"),
        (b'{"format":"maxgate-monitor","version":0}', "recording version 0 is not supported"),
        (b'{"format":"maxgate-monitor","version":1}\n{"a', "the recording has no snapshots"),
    ],
)
def test_invalid_file(tmp_path: Path, content: bytes, message: str) -> None:
    """Other files, other versions and empty recordings are rejected."""
    path = tmp_path / "b.jsonl"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=message):
        Recording(path)


def test_missing_folder(tmp_path: Path) -> None:
    """A file in a missing folder cannot be recorded."""
    with pytest.raises(ConfigurationError, match="cannot write"):
        Recorder(tmp_path / "no" / "a.jsonl", "")
