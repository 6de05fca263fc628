"""What is recorded comes back whole, and a file that is not whole says so."""

from pathlib import Path

import pytest

from maxgate.errors import ConfigurationError
from maxgate.monitor.feed import recorded
from maxgate.monitor.recording import Recorder, Recording, replay
from maxgate.monitor.snapshot import ContainerReading, Snapshot
from tests.unit.monitor.examples import engine, gateway, gpu, host, snapshot, times

LOOKS = (
    snapshot(0.5),
    snapshot(
        1.5,
        gateway(1, ok=3, failed=1),
        engines=(engine({}, {"preemptions": 1}, batch_size=times(3, 2)),),
        host=host(1),
        gpus=(gpu(0.5, "heat"),),
        containers=(ContainerReading("max", "running", 1.0, 2, 3, 4, 5),),
    ),
    snapshot(4.5, gateway(4, ok=3)),
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A recording of three looks."""
    path = tmp_path / "a.jsonl"
    with Recorder(path, "http://gateway") as recorder:
        for look in LOOKS:
            recorder.write(look)
    return path


def test_a_recording_gives_back_what_was_seen(file: Path) -> None:
    recording = Recording(file)
    assert (recording.url, recording.snapshots, recording.damaged) == ("http://gateway", LOOKS, 0)


def test_a_recording_that_was_cut_off_is_good_up_to_there(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-40])
    recording = Recording(file)
    assert (recording.snapshots, recording.damaged) == (LOOKS[:2], 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\x00\xff", "not a recording of monitor.py"),
        (b'{"format":"maxgate-load-test"}', "not a recording of monitor.py"),
        (b"[]", "not a recording of monitor.py"),
        (b'{"format":"maxgate-monitor","version":0}', "version 0 of a recording"),
        (b'{"format":"maxgate-monitor","version":1}\n{"a', "the recording is empty"),
    ],
)
def test_other_files_are_named_for_what_they_are(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "b.jsonl"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=message):
        Recording(path)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot write"):
        Recorder(tmp_path / "no" / "a.jsonl", "")


async def test_a_replay_has_the_pauses_of_the_recording_at_its_own_speed(file: Path) -> None:
    pauses = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    seen = [look async for look in replay(Recording(file), 2.0, sleep)]
    assert (tuple(seen), pauses) == (LOOKS, [0, 0.5, 1.5])


async def test_a_snapshot_is_written_before_anybody_sees_it(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"

    async def feed() -> object:
        for look in LOOKS:
            yield look

    seen: list[Snapshot] = []
    with Recorder(path, "") as recorder:
        async for look in recorded(feed(), recorder):  # type: ignore[arg-type]
            seen.append(look)
            assert len(path.read_text().splitlines()) == len(seen) + 1
    assert tuple(seen) == LOOKS
