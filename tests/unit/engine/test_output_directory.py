"""`maxgate models prepare` replaces only its own directories, and only by complete ones."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from maxgate.engine.output_directory import check_replaceable, remove_prepared, write_atomically
from maxgate.engine.prepared_model import (
    find_damaged_files,
    is_complete,
    list_files,
    write_prepared,
)
from maxgate.gguf.errors import ModelFileError


def write_model(out: Path, weights: bytes, *, force: bool = False) -> None:
    """Write a directory as `maxgate models prepare` does."""
    with write_atomically(out, force=force) as directory:
        (directory / "model.safetensors").write_bytes(weights)
        write_prepared(directory, source="m.gguf", encoding="float32", weight_file=None)


def list_names(folder: Path) -> list[str]:
    """List what is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_new_directory(tmp_path: Path) -> None:
    """A new directory has only the files that were written, and so has its parent."""
    write_model(tmp_path / "a" / "out", b"1")
    assert list_files(tmp_path) == ["a/out/maxgate.json", "a/out/model.safetensors"]
    assert is_complete(tmp_path / "a" / "out")


def test_replace(tmp_path: Path) -> None:
    """A prepared directory is replaced with `force` only."""
    out = tmp_path / "out"
    write_model(out, b"1")
    with pytest.raises(ModelFileError, match=r"out exists already\. Give --force to replace it"):
        write_model(out, b"2")
    assert (out / "model.safetensors").read_bytes() == b"1"
    write_model(out, b"2", force=True)
    assert (out / "model.safetensors").read_bytes() == b"2"
    assert list_names(tmp_path) == ["out"]


def test_empty_directory(tmp_path: Path) -> None:
    """An empty directory is used as it is."""
    (tmp_path / "out").mkdir()
    write_model(tmp_path / "out", b"1")
    assert is_complete(tmp_path / "out")


@pytest.mark.parametrize("force", [False, True])
def test_foreign_directory(tmp_path: Path, force: bool) -> None:
    """A directory of another origin is never replaced, and the error names what is in it."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious.gguf").touch()
    with pytest.raises(ModelFileError) as caught:
        write_model(tmp_path / "out", b"1", force=force)
    assert str(caught.value) == (
        f"{tmp_path}/out exists and was not written by `maxgate models prepare` (it has no "
        "maxgate.json): replacing it would delete precious.gguf. Choose another directory with "
        "--out."
    )
    assert list_files(tmp_path) == ["out/precious.gguf"]


@pytest.mark.parametrize("name", ["notes.txt", "deep/er/model.gguf", "link"])
def test_foreign_file(tmp_path: Path, name: str) -> None:
    """A file that was added to a prepared directory protects it."""
    out = tmp_path / "out"
    write_model(out, b"1")
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    (out / name).symlink_to("nowhere") if name == "link" else (out / name).touch()
    for change in (lambda: write_model(out, b"2", force=True), lambda: remove_prepared(out)):
        with pytest.raises(ModelFileError, match=f"would delete {name}"):
            change()
    assert list_files(out) == sorted([name, "maxgate.json", "model.safetensors"])


def test_marker_of_another_program(tmp_path: Path) -> None:
    """A maxgate.json with other content does not make a directory one of maxgate's."""
    (tmp_path / "out").mkdir()
    for content in ("[]", "{}", "nonsense", '{"encoding": 1}', '{"encoding": "a", "files": 1}'):
        (tmp_path / "out" / "maxgate.json").write_text(content)
        with pytest.raises(ModelFileError, match=r"would delete maxgate\.json"):
            check_replaceable(tmp_path / "out", force=True)


def test_file_in_the_way(tmp_path: Path) -> None:
    """A file is never replaced by a directory."""
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ModelFileError, match="would delete the file out"):
        write_model(tmp_path / "out", b"1", force=True)
    assert (tmp_path / "out").read_text() == "mine"


def test_linked_directory(tmp_path: Path) -> None:
    """A link to another disk stays, and the directory it leads to is replaced."""
    write_model(tmp_path / "disk" / "model", b"1")
    (tmp_path / "out").symlink_to(tmp_path / "disk" / "model")
    write_model(tmp_path / "out", b"2", force=True)
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "disk" / "model" / "model.safetensors").read_bytes() == b"2"


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), SystemExit(143)])
def test_failure_keeps_predecessor(tmp_path: Path, fault: BaseException) -> None:
    """If writing fails or is interrupted, the earlier model stays and nothing else is left."""
    write_model(tmp_path / "out", b"1")
    expected = SystemExit if isinstance(fault, SystemExit) else ModelFileError
    with (
        pytest.raises(expected),
        write_atomically(tmp_path / "out", force=True) as directory,
    ):
        (directory / "model.safetensors").write_bytes(b"half")
        raise fault
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == b"1"
    assert list_names(tmp_path) == ["out"]


def die_while_writing(out: Path) -> None:
    """Kill this process while it writes a directory."""
    with write_atomically(out, force=True) as directory:
        (directory / "model.safetensors").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)


def test_killed(tmp_path: Path) -> None:
    """A killed process leaves the earlier model, and the next one removes what it left."""
    out = tmp_path / "out"
    write_model(out, b"1")
    process = multiprocessing.get_context("spawn").Process(target=die_while_writing, args=(out,))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert (out / "model.safetensors").read_bytes() == b"1"
    assert len(list_names(tmp_path)) == 2
    write_model(out, b"2", force=True)
    assert list_names(tmp_path) == ["out"]


def test_parallel_preparations(tmp_path: Path) -> None:
    """A preparation does not touch the files of one that is still running."""
    out = tmp_path / "out"
    with write_atomically(out, force=False) as directory:
        (directory / "model.safetensors").write_bytes(b"slow")
        write_model(out, b"fast")
        write_prepared(directory, source="m.gguf", encoding="float32", weight_file=None)
        assert (directory / "model.safetensors").read_bytes() == b"slow"
        (out / "model.safetensors").unlink()
        (out / "maxgate.json").unlink()
    assert (out / "model.safetensors").read_bytes() == b"slow"


def test_interrupted_exchange(tmp_path: Path) -> None:
    """A model that was moved aside when the process was killed gets its name back."""
    write_model(tmp_path / ".out.partial-x.replaced", b"1")
    with pytest.raises(ModelFileError, match="exists already"):
        write_model(tmp_path / "out", b"2")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == b"1"


def test_damaged_files(tmp_path: Path) -> None:
    """Files that are missing or of another size are reported."""
    out = tmp_path / "out"
    write_model(out, b"weights")
    assert find_damaged_files(out) == []
    (out / "model.safetensors").write_bytes(b"short")
    assert find_damaged_files(out) == ["model.safetensors"]
    (out / "model.safetensors").unlink()
    assert (find_damaged_files(out), is_complete(out)) == (["model.safetensors"], False)


def test_remove(tmp_path: Path) -> None:
    """Removing a prepared directory leaves nothing."""
    write_model(tmp_path / "out", b"1")
    remove_prepared(tmp_path / "out")
    assert list_names(tmp_path) == []


def test_unwritable_place(tmp_path: Path) -> None:
    """A place that cannot be written is named with the reason."""
    (tmp_path / "file").touch()
    for out, reason in (
        (tmp_path / "file" / "out", "File exists"),
        (tmp_path / ("x" * 300), "File name too long"),
    ):
        with pytest.raises(ModelFileError, match=f"Cannot write to .*: {reason}"):
            write_model(out, b"1")
