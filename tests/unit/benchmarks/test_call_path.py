"""Counting the calls and files of one request."""

import importlib.util
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.call_path import (
    ROOT,
    CallRecorder,
    Counts,
    EngineWrites,
    count,
    engine_thread,
    exceeds,
    list_files,
    measure_all,
)
from tests.fakes.gateway import TLS
from tests.fakes.processes import run_to_end

SAMPLES = {
    "first": "def begin(other):\n    return twice(other) + twice(other)\n\n"
    "def twice(other):\n    return other.double(1)\n",
    "second": "def double(value):\n    return value * 2\n",
}


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def recorder(tmp_path: Path) -> CallRecorder:
    """A recorder that has seen first.begin, then (first.twice, second.double) two times."""
    for name, source in SAMPLES.items():
        (tmp_path / f"{name}.py").write_text(source)
    first, second = (load(tmp_path / f"{name}.py") for name in SAMPLES)
    recorder = CallRecorder(tmp_path)
    with recorder.recording():
        first.begin(second)
    first.begin(second)
    return recorder


def test_counts(recorder: CallRecorder) -> None:
    """Calls repeat; functions and files count once."""
    assert count(recorder.calls) == Counts(calls=5, functions=3, files=2, changes=3)


def test_change_from_previous_call(recorder: CallRecorder) -> None:
    """The call before a segment counts for changes of file only."""
    calls = recorder.calls
    assert count(calls[3:], before=calls[2]) == Counts(calls=2, functions=2, files=2, changes=2)


def test_list_files(recorder: CallRecorder, tmp_path: Path) -> None:
    """Consecutive calls into one file are listed once."""
    assert list_files(recorder.calls, tmp_path) == ["first.py", "second.py"] * 2


def test_other_directories_are_ignored(tmp_path: Path) -> None:
    """A directory whose name starts like the recorded one is not below it."""
    path = tmp_path / "package-2" / "second.py"
    path.parent.mkdir()
    path.write_text(SAMPLES["second"])
    module, recorder = load(path), CallRecorder(tmp_path / "package")
    with recorder.recording():
        module.double(1)
    assert recorder.calls == []


def test_limits() -> None:
    """Each exceeded limit is described; absent limits allow everything."""
    counts = Counts(calls=9, functions=8, files=7, changes=6)
    assert exceeds(counts, files=7, changes=None) == []
    assert exceeds(counts, files=6, changes=5) == [
        "chat: 7 files, limit 6",
        "chat: 6 changes of file, limit 5",
    ]


async def test_chunk_goes_through_fewer_files_than_a_request() -> None:
    """Each case runs against the real gateway; a stop string adds calls to each chunk."""
    found = await measure_all(["chat", "burst", "chunk", "chunk-stop"], runs=1)
    chat, burst, chunk, with_stop = (counts for counts, _ in found.values())
    assert chat.calls >= chat.functions > chat.files > chunk.files > 3
    assert chat.calls < burst.calls
    assert chunk.calls < with_stop.calls < chat.calls


async def test_engine_calls_are_not_recorded() -> None:
    """The fake MAX is served by maxgate's own protocol, but in another thread."""
    recorder = CallRecorder(ROOT / "maxgate")
    with engine_thread(EngineWrites()) as url:
        async with httpx.AsyncClient(base_url=url, verify=TLS) as client:
            with recorder.recording():
                response = await client.get("/v1/models")
    assert (response.status_code, recorder.calls) == (200, [])


async def test_admission_calls() -> None:
    """Admission runs few functions of one file for a request, and none for a chunk."""
    found = await measure_all(["chat", "chunk"], runs=5)
    folder = f"{ROOT / 'maxgate' / 'admission'}/"
    calls = {
        name: [code.co_filename.removeprefix(folder) for code in calls]
        for name, (_, calls) in found.items()
    }
    own = {name: [file for file in files if "/" not in file] for name, files in calls.items()}
    assert own == {"chat": ["slots.py"] * 10, "chunk": []}


async def test_chat_call_path() -> None:
    """A chat request passes at most 30 files and changes the file at most 70 times."""
    limits = ("--limit-files", "30", "--limit-changes", "70")
    # In a process of its own, because log writers of other tests would count.
    assert await run_to_end("-m", "benchmarks.call_path", *limits) == (0, "")
